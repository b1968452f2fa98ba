"""The main job, shown: questions go to the expert that can answer them, to two, and to a group."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape

from composer.answers import extract_answer, same_answer
from composer.orchestrator import Composer
from composer.types import Answer, Delta
from eval.starter.items import make_items
from eval.starter.skill import Item
from eval.starter.skills import SKILLS

BASE = "smol"
"""The model that the specialists are adapters of."""
SEED = 7
QUESTIONS = (
    ("auto", "What is the capital of France?"),
    ("panel", "Write a short, friendly email inviting my colleagues to lunch on Friday."),
    ("thoughts", "Convert the date 21 November 2017 into YYYY-MM-DD."),
)


@dataclass(frozen=True, slots=True)
class Demonstration:
    """Composed answers beside the base model's."""

    composer: Composer
    out: Console

    async def show_skill(self, item: Item) -> tuple[bool, bool]:
        """Whether the routed expert and the base model are right about a question."""
        self.out.print(f"\n[bold]{escape(item.prompt)}[/]")
        routed = await self.composer.ask(item.prompt, composition="auto")
        alone = await self.composer.ask(item.prompt, composition=BASE)
        for answer in (routed, alone):
            mark = "[green]right[/]" if is_right(item, answer) else "[red]wrong[/]"
            text = " ".join(answer.text.split())
            shown = text if len(text) <= 80 else f"{text[:80]}..."
            self.out.print(f"  [cyan]{answer.expert}[/] ({mark}): {escape(shown)}")
        self._say_why(routed)
        return is_right(item, routed), is_right(item, alone)

    async def show(self, composition: str, question: str) -> None:
        """Stream an answer, with who was chosen and why, who said what and how long it took."""
        self.out.print(f"\n[bold]{escape(question)}[/]  [dim]({composition})[/]")
        async for event in self.composer.stream(question, composition=composition):
            match event:
                case Delta(_, _, text):
                    self.out.print(escape(text), end="")
                case Answer():
                    self.out.print()
                    self._say_why(event)
                    self._say_what(event)
                case restart:
                    self.out.print(f"\n[dim]... {escape(restart.reason)}[/]")

    def _say_why(self, answer: Answer) -> None:
        assert answer.selection is not None
        for choice in answer.selection.choices:
            quality = "unknown" if choice.quality is None else f"{choice.quality:.2f}"
            why = escape(choice.evidence.reason)
            self.out.print(
                f"[dim]  {answer.selection.router} chose {choice.expert} ({quality}): {why}[/]"
            )

    def _say_what(self, answer: Answer) -> None:
        for completion in answer.completions:
            self.out.print(
                f"[dim]  {completion.expert} ({completion.runner}): "
                f"{completion.completion_tokens} tokens, loaded in {completion.loading_s:.1f} s, "
                f"generated in {completion.generating_s:.1f} s[/]"
            )
        for failure in answer.failures:
            self.out.print(f"[red]  failed[/] {failure.expert}: {escape(failure.message)}")
        self.out.print(f"[cyan]  {answer.aggregator}[/]: {escape(answer.reason)}")


async def demonstrate(experts: str) -> None:
    """Ask a question of each skill, a general one, one of two experts, and one of a group.

    Raises:
        ComposerError: The experts cannot be read, or none of them answers.
    """
    out = Console(highlight=False)
    started_s = time.perf_counter()
    out.print("[dim]the first answer comes when Ray and an engine are up: half a minute or more[/]")
    async with Composer.from_yaml(experts) as composer:
        demonstration = Demonstration(composer, out)
        items = [make_items(skill, "test", 1, SEED)[0] for skill in SKILLS.values()]
        right = [await demonstration.show_skill(item) for item in items]
        for composition, question in QUESTIONS:
            await demonstration.show(composition, question)
    routed, alone = (sum(column) for column in zip(*right, strict=True))
    out.print(
        f"\nRouted to an expert {routed} of {len(items)} are right; {BASE} alone: {alone}. "
        f"[dim]{time.perf_counter() - started_s:.0f} s[/]"
    )


def is_right(item: Item, answer: Answer) -> bool:
    """Whether an answer's text holds what is right."""
    found = extract_answer(answer.text, item.answer_type)
    return found is not None and same_answer(found, item.reference, item.answer_type)
