"""Checks of routers' settings: one line that says what is wrong and what would be right."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from composer.errors import ConfigError
from composer.suggest import suggest


def check_number(
    router: str,
    setting: str,
    value: Any,
    *,
    least: float = 0,
    most: float = math.inf,
    whole: bool = False,
    optional: bool = False,
) -> None:
    """Refuse what is no number in a range.

    Args:
        router: Whose setting it is.
        setting: Its name.
        value: As it was given.
        least: The least that is right.
        most: The most that is right.
        whole: It must be a whole number.
        optional: None is right as well.

    Raises:
        ConfigError: It is not right.
    """
    if optional and value is None:
        return
    types = (int,) if whole else (int, float)
    # A bool is an int to isinstance, and NaN and infinity are no settings.
    if type(value) in types and least <= value <= most and math.isfinite(value):
        return
    kind = "a whole number" if whole else "a number"
    bounds = f"from {least:g}" + (f" to {most:g}" if math.isfinite(most) else "")
    remedy = ", or leave it out" if optional else ""
    raise ConfigError(f"router {router!r}: {setting!r} is {value!r}; give {kind} {bounds}{remedy}")


def check_choice(router: str, setting: str, value: Any, choices: Collection[str]) -> None:
    """Refuse what is none of the choices.

    Raises:
        ConfigError: It is none.
    """
    if value not in choices:
        raise ConfigError(
            f"router {router!r} has no {setting} {value!r}; {suggest(str(value), choices)}"
        )


def check_settings(
    router: str,
    settings: Mapping[str, Any],
    *,
    required: tuple[str, ...] = (),
    optional: tuple[str, ...] = (),
) -> None:
    """Refuse settings that a router does not take, and ones that it lacks.

    Args:
        router: Whose settings they are.
        settings: As they were given.
        required: Names that must be there.
        optional: Names that may be.

    Raises:
        ConfigError: One is unknown, or missing.
    """
    allowed = required + optional
    for setting in settings:
        if setting not in allowed:
            remedy = suggest(setting, allowed) if allowed else "it takes none"
            raise ConfigError(f"router {router!r} has no setting {setting!r}; {remedy}")
    for setting in required:
        if setting not in settings:
            raise ConfigError(f"router {router!r} needs the setting {setting!r}; add it")
