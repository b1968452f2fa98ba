"""`composer chat`: a conversation with a composition."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

import typer

from composer.cli.options import (
    CompositionName,
    ExpertsPath,
    Explain,
    System,
    Verbose,
    decode,
    experts_path,
    set_up_logging,
    to_messages,
)
from composer.cli.output import complain
from composer.errors import ComposerError, ConfigError
from composer.suggest import unknown_name

if TYPE_CHECKING:
    from composer.cli.serving import EventLoop
    from composer.orchestrator import Composer

PROMPT = "> "
COMMANDS = ("/composition", "/quit", "/reset")


def chat(
    composition: CompositionName = "auto",
    experts: ExpertsPath = None,
    explain: Explain = False,
    system: System = None,
    verbose: Verbose = 0,
) -> None:
    """Hold a conversation with the experts.

    What was said before is part of each question. Type /reset to begin anew, /composition NAME to
    ask another one, /quit or Ctrl-D to end. When stdin is no terminal, each of its lines is a
    turn.

    composer chat

    composer chat -c smol --system "Answer in one sentence."

    composer chat < questions.txt
    """
    from composer.cli.serving import EventLoop

    set_up_logging(verbose)
    with EventLoop() as loop:
        from composer.orchestrator import Composer

        with loop.entered(Composer.from_yaml(experts_path(experts))) as composer:
            Conversation(composer, loop, composition, system, explain=explain).hold()


class Conversation:
    """What was said so far, and with which composition it goes on."""

    def __init__(
        self,
        composer: Composer,
        loop: EventLoop,
        composition: str,
        system: str | None,
        *,
        explain: bool,
    ) -> None:
        self._composer = composer
        self._loop = loop
        self._system = system
        self._explain = explain
        self._said: list[dict[str, str]] = []
        self._turn_to(composition)

    def hold(self) -> None:
        """Take turns until stdin ends or /quit."""
        for line in read_lines():
            try:
                text = decode(line, "the line").strip()
                if text == "/quit":
                    return
                if text:
                    self._take(text)
            except ComposerError as exc:
                complain(exc)

    def _take(self, text: str) -> None:
        """One line: a command, or a turn. A turn that failed is as if it had not been."""
        from composer.cli.display import answer_aloud
        from composer.cli.explain import show_answer
        from composer.cli.output import stderr

        if text.startswith("/"):
            self._obey(*text.split(maxsplit=1))
            return
        messages = to_messages(text, self._system)
        messages[-1:-1] = self._said
        answer = self._loop.run(
            answer_aloud(self._composer, messages, composition=self._composition)
        )
        self._said += [messages[-1], {"role": "assistant", "content": answer.text}]
        if self._explain:
            show_answer(stderr(), answer)

    def _obey(self, command: str, argument: str = "") -> None:
        if command == "/reset":
            self._said.clear()
        elif command == "/composition":
            self._turn_to(argument)
        else:
            raise ConfigError(unknown_name("command", command, COMMANDS))

    def _turn_to(self, name: str) -> None:
        known = [*self._composer.compositions, *self._composer.registry.experts]
        if name not in known:
            raise ConfigError(unknown_name("composition", name, known))
        self._composition = name


def read_lines() -> Iterator[bytes]:
    """The lines of stdin; a terminal is asked for each, and lets it be edited.

    The event loop stands still meanwhile: runners live in processes of their own.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        while True:
            if sys.stdin.isatty():
                typer.echo(PROMPT, err=True, nl=False)
            line = sys.stdin.buffer.readline()
            if not line:
                return
            yield line
    if find_spec("readline") is not None:
        import_module("readline")  # gives `input` line editing and a history
    while True:
        try:
            line = input(PROMPT)
        except EOFError:
            typer.echo(err=True)
            return
        yield line.encode(errors="surrogateescape")
