"""The main job, shown: three questions, routed to real experts, one of them to two."""

from __future__ import annotations

import time

from rich.console import Console
from rich.markup import escape

from composer.orchestrator import Composer
from composer.types import Answer, Delta

QUESTIONS = (
    ("auto", "What is the capital of France?"),
    ("auto", "Write a short, friendly email inviting my colleagues to lunch on Friday."),
    ("panel", "Why do leaves change colour in autumn?"),
)


async def demonstrate(experts: str) -> None:
    """Answer the questions, streaming, with the evidence for each choice.

    Raises:
        ComposerError: The experts cannot be read, or none of them answers.
    """
    out = Console(highlight=False)
    started_s = time.perf_counter()
    out.print("[dim]the first answer comes when Ray and an engine are up: half a minute or more[/]")
    async with Composer.from_yaml(experts) as composer:
        for composition, question in QUESTIONS:
            out.print(f"\n[bold]{escape(question)}[/]  [dim]({composition})[/]")
            async for event in composer.stream(question, composition=composition):
                match event:
                    case Delta(_, _, text):
                        out.print(escape(text), end="")
                    case Answer():
                        _explain(out, event)
                    case restart:
                        out.print(f"\n[dim]... {escape(restart.reason)}[/]")
    out.print(f"\n[dim]three answers in {time.perf_counter() - started_s:.0f} s[/]")


def _explain(out: Console, answer: Answer) -> None:
    """Who was chosen and why, who said what, how long it took."""
    out.print()
    assert answer.selection is not None
    out.print(f"[cyan]  chosen[/] by {answer.selection.router}: {answer.selection.reason}")
    for choice in answer.selection.choices:
        quality = "unknown" if choice.quality is None else f"{choice.quality:.2f}"
        out.print(f"[cyan]    {choice.expert}[/] {quality}  {escape(choice.evidence.reason)}")
    for completion in answer.completions:
        out.print(
            f"[cyan]  said[/] {completion.expert} ({completion.runner}): "
            f"{completion.completion_tokens} tokens, loaded in {completion.loading_s:.1f} s, "
            f"generated in {completion.generating_s:.1f} s"
        )
    for failure in answer.failures:
        out.print(f"[red]  failed[/] {failure.expert}: {escape(failure.message)}")
    out.print(f"[cyan]  {answer.aggregator}[/]: {escape(answer.reason)}")
