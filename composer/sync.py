"""The Composer for callers without an event loop: the same methods, each one line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Self

from composer.errors import ConfigError
from composer.orchestrator import Composer, unwatched
from composer.queries import Prompt
from composer.types import Answer, AnswerType, Delta, Restart, Selection

if TYPE_CHECKING:
    from composer.allocate import Budget
    from composer.bulk import BatchReport
    from composer.bulk.progress import OnProgress
    from composer.bulk.window import Known


class SyncComposer:
    """See `Composer`; `with` it. It holds one event loop for its whole life."""

    def __init__(self, composer: Composer) -> None:
        """Hold a composer.

        Raises:
            ConfigError: An event loop runs already (a notebook, say).
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._composer = composer
            self._runner = asyncio.Runner()
        else:
            raise ConfigError("an event loop is running here; `await composer.ask(...)` instead")

    @classmethod
    def from_yaml(cls, path: str | Path, *, cache: Path | None = None) -> Self:
        """See `Composer.from_yaml`."""
        return cls(Composer.from_yaml(path, cache=cache))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            self._runner.run(self._composer.__aexit__(*exc_info))
        finally:
            self._runner.close()

    def ask(
        self, prompt: Prompt, *, composition: str = "auto", answer_type: AnswerType | None = None
    ) -> Answer:
        """See `Composer.ask`."""
        ask = self._composer.ask(prompt, composition=composition, answer_type=answer_type)
        return self._runner.run(ask)

    def route(self, prompt: Prompt, *, composition: str = "auto") -> Selection:
        """See `Composer.route`."""
        return self._runner.run(self._composer.route(prompt, composition=composition))

    def batch(
        self,
        queries: Path | str | Iterable[Prompt],
        composition: str = "auto",
        run_dir: str | Path = "batch",
        *,
        budget: Budget | None = None,
        min_share: float = 0.0,
        strict: bool = False,
        known: Known | None = None,
        on_progress: OnProgress = unwatched,
    ) -> BatchReport:
        """See `Composer.batch`."""
        batch = self._composer.batch(
            queries,
            composition,
            run_dir,
            budget=budget,
            min_share=min_share,
            strict=strict,
            known=known,
            on_progress=on_progress,
        )
        return self._runner.run(batch)

    def stream(
        self, prompt: Prompt, *, composition: str = "auto", answer_type: AnswerType | None = None
    ) -> Generator[Delta | Restart | Answer]:
        """See `Composer.stream`."""
        events = self._composer.stream(prompt, composition=composition, answer_type=answer_type)
        try:
            while (event := self._runner.run(_next(events))) is not None:
                yield event
        finally:
            self._runner.run(events.aclose())


async def _next(
    events: AsyncGenerator[Delta | Restart | Answer],
) -> Delta | Restart | Answer | None:
    return await anext(events, None)
