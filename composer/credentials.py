"""Secrets are named in a file and read from the environment, never written down."""

from __future__ import annotations

import os
import re

from composer.errors import ConfigError

REFERENCE = r"os\.environ/[A-Za-z_][A-Za-z0-9_]*|\$\{[A-Za-z_][A-Za-z0-9_]*\}"
"""What a reference to a secret looks like: "os.environ/NAME" or "${NAME}"."""

HOW_TO_REFER = "put it into the environment and write 'os.environ/NAME' here"


def is_reference(text: str) -> bool:
    """Whether the text names an environment variable rather than holding a secret."""
    return re.fullmatch(REFERENCE, text) is not None


def resolve_secret(reference: str) -> str:
    """The secret that a reference names.

    Args:
        reference: "os.environ/NAME" or "${NAME}".

    Raises:
        ConfigError: The variable is unset or empty, or this is no reference (and may be the
            secret itself, so the message does not repeat it).
    """
    if not is_reference(reference):
        raise ConfigError(f"a secret is written out instead of named; {HOW_TO_REFER}")
    name = reference.removeprefix("os.environ/").strip("${}")
    secret = os.environ.get(name, "")
    if not secret:
        raise ConfigError(
            f"the environment variable {name!r} is not set; `export {name}=...` before you start"
        )
    return secret
