"""Options that several commands share, and how each is read."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from composer.errors import ConfigError

OutputForm = Literal["text", "json"]

Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="PROMPT", help="The question. Left out, or -: read from stdin."),
]
CompositionName = Annotated[
    str,
    typer.Option("--composition", "-c", help="A composition of experts.yaml, or one expert."),
]
ExpertsPath = Annotated[
    Path | None,
    typer.Option(
        "--experts",
        envvar="COMPOSER_EXPERTS",
        help="The experts.yaml to read. Left out: the one in this folder.",
    ),
]
Output = Annotated[
    OutputForm, typer.Option("--output", "-o", help="Text for people, JSON for programs.")
]
Explain = Annotated[
    bool, typer.Option("--explain", help="Say why, too: who was chosen on what evidence.")
]
System = Annotated[
    str | None, typer.Option("--system", help="A system message to put before the conversation.")
]
Picture = Annotated[
    Path | None,
    typer.Option("--picture", metavar="FILE", help="Draw the slots over time there: .png or .svg."),
]
Verbose = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        show_default=False,
        metavar="",
        help="Log to stderr what is loaded; -vv: each decision.",
    ),
]


def experts_path(given: Path | None) -> Path:
    """The experts.yaml to read: the one given, by option or environment, or this folder's."""
    return given if given is not None else Path("experts.yaml")


def read_prompt(words: Sequence[str] | None) -> str:
    """The question: the words of the command line, or else stdin.

    Raises:
        ConfigError: It is empty, or not UTF-8.
    """
    if words == ["-"] or (not words and not sys.stdin.isatty()):
        text = decode(sys.stdin.buffer.read(), "stdin").rstrip("\r\n")
    else:
        text = " ".join(words or ())
        try:
            text.encode()
        except UnicodeEncodeError as exc:
            raise ConfigError(
                f"the prompt is not UTF-8 at character {exc.start}; set the terminal to UTF-8"
            ) from None
    if not text.strip():
        raise ConfigError("the prompt is empty; write a question after the command or pipe one in")
    return text


def decode(data: bytes, where: str) -> str:
    """The bytes as text.

    Raises:
        ConfigError: They are not UTF-8.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        raise ConfigError(
            f"{where} is not UTF-8 at byte {exc.start} (0x{data[exc.start]:02x}); "
            "convert it to UTF-8 first"
        ) from None


def to_messages(prompt: str, system: str | None) -> list[dict[str, str]]:
    """A conversation of one question, in OpenAI's form."""
    before = [{"role": "system", "content": system}] if system else []
    return [*before, {"role": "user", "content": prompt}]


def set_up_logging(verbose: int) -> None:
    """Send the project's log to stderr: warnings, with 1 what is loaded, with 2 each decision."""
    from rich.logging import RichHandler

    from composer.cli.output import stderr

    handler = RichHandler(console=stderr(), show_path=False, log_time_format="%X")
    level = {0: logging.WARNING, 1: logging.INFO}.get(verbose, logging.DEBUG)
    for name in ("composer", "routers"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
