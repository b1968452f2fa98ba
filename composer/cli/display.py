"""An answer on its way to the terminal: what is being waited for, then the text as it comes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import typer
from rich.status import Status

from composer.cli.output import stderr
from composer.types import Answer, AnswerType, Delta, Restart

if TYPE_CHECKING:
    from composer.orchestrator import Composer
    from composer.pool.pool import Pool

LOOK_AGAIN_S = 0.2


async def answer_aloud(
    composer: Composer,
    messages: Sequence[dict[str, str]],
    *,
    composition: str,
    answer_type: AnswerType | None = None,
    stream: bool = True,
) -> Answer:
    """Answer, with the text on stdout.

    It is streamed to a terminal only: what a file or a pipe has got cannot be taken back when the
    answer begins anew.
    """
    if not (stream and sys.stdout.isatty()):
        answer = await answer_silently(
            composer, messages, composition=composition, answer_type=answer_type
        )
        typer.echo(answer.text)
        return answer
    said = ""
    async with waiting(composer.pool) as stop:
        async for event in composer.stream(
            messages, composition=composition, answer_type=answer_type
        ):
            match event:
                case Delta(text=text):
                    stop()
                    typer.echo(text, nl=False)
                    said += text
                case Restart(reason=reason):
                    typer.echo("" if said.endswith("\n") or not said else "\n", nl=False)
                    typer.echo(f"starting over: {reason}", err=True)
                    said = ""
                case Answer():
                    stop()
                    typer.echo("" if said.endswith("\n") else "\n", nl=False)
                    return event
    raise AssertionError("a stream ended without an answer")


async def answer_silently(
    composer: Composer,
    messages: Sequence[dict[str, str]],
    *,
    composition: str,
    answer_type: AnswerType | None = None,
) -> Answer:
    """Answer, and write nothing to stdout."""
    async with waiting(composer.pool):
        return await composer.ask(messages, composition=composition, answer_type=answer_type)


@asynccontextmanager
async def waiting(pool: Pool) -> AsyncGenerator[Callable[[], None]]:
    """Say on stderr, if it is a terminal, what is being waited for; until `stop` is called."""
    status = Status(describe(pool), console=stderr())
    follower = asyncio.create_task(_follow(pool, status))

    def stop() -> None:
        follower.cancel()
        status.stop()

    status.start()
    try:
        yield stop
    finally:
        stop()
        await asyncio.wait([follower])


def describe(pool: Pool) -> str:
    """What the pool is busy with, as far as it shows."""
    runners = pool.runners()
    if not runners:
        return "starting..."
    experts = sorted({expert for runner in runners for expert in runner.experts})
    return f"waiting for {', '.join(experts)}..." if experts else "starting a runner..."


async def _follow(pool: Pool, status: Status) -> None:
    while True:
        await asyncio.sleep(LOOK_AGAIN_S)
        status.update(describe(pool))
