"""The Composer: one query in, one answer out, with everything that led to it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from composer.composed import Composed, answer_flow, select
from composer.errors import ConfigError, RoutingError
from composer.experts import Registry
from composer.flow import complete_answer
from composer.online import OnlineRun
from composer.pool.pool import Pool
from composer.protocols import Aggregator, Flow
from composer.queries import Prompt, make_query
from composer.suggest import unknown_name
from composer.tools import PoolTools
from composer.types import (
    Annotation,
    Answer,
    AnswerType,
    Delta,
    Outcome,
    Query,
    Restart,
    Selection,
    Span,
)

if TYPE_CHECKING:
    from composer.allocate import Budget
    from composer.bulk import BatchReport
    from composer.bulk.progress import BatchProgress, OnProgress
    from composer.bulk.window import Known
    from composer.types import Float32Array

logger = logging.getLogger(__name__)


def unwatched(progress: BatchProgress) -> None:
    """For a batch whose progress nobody is told."""


class Composer:
    """Routes, asks and combines; `async with` it.

    async with Composer.from_yaml("experts.yaml") as composer:
        answer = await composer.ask("What is the capital of France?")
    """

    def __init__(
        self,
        registry: Registry,
        compositions: Mapping[str, Composed],
        *,
        pool: Pool,
        direct: Callable[[str], Composed] | None = None,
    ) -> None:
        """Store the parts; nothing starts before `async with`.

        Args:
            registry: The experts.
            compositions: What `ask` can be told to use, by name.
            pool: Where experts run; closed with the composer.
            direct: Makes the composition of an expert that is asked by its own name; None: an
                expert's name is not taken for a composition's.
        """
        self.registry = registry
        self.compositions = compositions
        self.pool = pool
        self._direct = direct
        self._tools = PoolTools(self.pool)

    @classmethod
    def from_yaml(cls, path: str | Path, *, cache: Path | None = None) -> Composer:
        """Make a composer of an experts.yaml.

        Raises:
            ConfigError: Something in it is wrong, or a secret that it names is not set.
        """
        from composer.assembly import assemble

        return assemble(path, cache=cache)

    async def __aenter__(self) -> Composer:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.pool.close()

    async def ask(
        self,
        prompt: Prompt,
        *,
        composition: str = "auto",
        answer_type: AnswerType | None = None,
    ) -> Answer:
        """Answer one question. Arguments and errors as `stream`."""
        query = make_query(prompt, answer_type)
        async with aclosing(self._answer(query, composition, stream=False)) as events:
            async for event in events:
                if isinstance(event, Answer):
                    return event
        raise AssertionError("a stream ended without an answer")

    async def stream(
        self,
        prompt: Prompt,
        *,
        composition: str = "auto",
        answer_type: AnswerType | None = None,
    ) -> AsyncGenerator[Delta | Restart | Answer]:
        """Answer one question piece by piece; the `Answer` comes last.

        The deltas since the last `Restart` add up to the answer's text.

        Args:
            prompt: A question, messages in OpenAI's form, or a `Query`.
            composition: A composition's name, or an expert's, which then answers alone.
            answer_type: How a vote reads the answers; None: as the composition says.

        Raises:
            ConfigError: The composition does not exist, or cannot work.
            RoutingError: No expert can take the query, or the composition abstains.
            AggregationError: No expert answered; the message names each failure.
        """
        query = make_query(prompt, answer_type)
        async with aclosing(self._answer(query, composition, stream=True)) as events:
            async for event in events:
                yield event

    async def route(self, prompt: Prompt, *, composition: str = "auto") -> Selection:
        """Choose experts for a question and ask none (but those that the router itself asks).

        A selection without choices says that `ask` would refuse the question, and why.

        Raises:
            ConfigError: The composition does not exist, or cannot work.
            RoutingError: No expert is available, or the router cannot score the question.
        """
        query = make_query(prompt)
        selection, _, _ = await self._select(query, self._composed(composition))
        return selection

    async def batch(
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
        """Answer many questions, each expert loaded as rarely as can be.

        All are routed first; then engines are loaded one after the other, and each is asked all
        that waits for it. Results are lines of `results.jsonl` in the folder, in the order in which
        they come. Called again with the same arguments it goes on where it stood.

        Args:
            queries: A file of JSON lines (see `composer.bulk.lines`), or prompts; these are kept in
                the folder as `queries.jsonl`, with their places as ids.
            composition: A composition's name, or an expert's, which then answers all alone.
            run_dir: Keeps what was asked and answered; made if it does not exist.
            budget: What all answers may be expected to cost; it decides who answers which question
                in the place of the composition's `cost_weight`.
            min_share: Of all choices, in [0, 1]: experts that would get less are left out.
            strict: A line that cannot be read is an error; else it is reported and left out.
            known: Asked for each request before an expert is: its outcome, under the request's id,
                where that is there already, a cache's or another run's. What it gives counts in
                tokens and cost as if it had been asked now.
            on_progress: Called whenever something has come of it.

        Raises:
            ConfigError: The composition does not exist; the file cannot be read; the folder is
                another batch's or cannot be written; an expert does not fit into memory; or the
                budget or the share cannot be kept to.
            RoutingError: The questions cannot be scored at all.
        """
        from composer.bulk import run_batch
        from composer.bulk.limits import Limits
        from composer.bulk.lines import keep_prompts
        from composer.bulk.window import nothing_known

        limits = Limits(budget, min_share)
        composed = self._composed(composition)
        folder = Path(run_dir)
        is_file = isinstance(queries, (str, Path))
        path = Path(queries) if is_file else keep_prompts(queries, folder)
        return await run_batch(
            path,
            composed,
            self.registry,
            self.pool,
            folder,
            limits=limits,
            strict=strict,
            known=known or nothing_known,
            on_progress=on_progress,
        )

    async def _answer(
        self, query: Query, composition: str, *, stream: bool
    ) -> AsyncGenerator[Delta | Restart | Answer]:
        started_s = time.perf_counter()
        composed = self._composed(composition)
        self.pool.prewarm()
        selection, spans, outcomes = await self._select(query, composed)
        spans.append(
            Span("route", started_s, time.perf_counter(), {"router": composed.router.name})
        )
        if not selection.choices:
            raise RoutingError(selection.reason)
        await self._resolve(selection, composed.aggregator)
        flow = answer_flow(composed.aggregator, query, selection, self._tools)
        run: OnlineRun[Answer] = OnlineRun(flow, self.pool)
        said = ""
        async with aclosing(run.events(stream=stream)) as events:
            async for event in events:
                said = said + event.text if isinstance(event, Delta) else ""
                yield event
        answer = complete_answer(run.result, selection, [*outcomes, *run.outcomes])
        if stream and said != answer.text:
            if said:
                yield Restart(query.id, f"the {answer.aggregator} aggregator decided")
            yield Delta(query.id, answer.expert, answer.text)
        whole = Span("answer", started_s, time.perf_counter(), {"composition": composed.name})
        yield replace(answer, trace=(whole, *spans, *run.spans))

    async def _select(
        self, query: Query, composed: Composed
    ) -> tuple[Selection, list[Span], list[Outcome]]:
        router, spans, outcomes = composed.router, list[Span](), list[Outcome]()
        annotation: Annotation | None = None
        flow: Flow[Annotation] | None = router.annotate(query)
        if flow is not None:
            run: OnlineRun[Annotation] = OnlineRun(flow, self.pool)
            async for _ in run.events(stream=False):
                pass
            annotation, spans, outcomes = run.result, run.spans, run.outcomes
        scores = await asyncio.to_thread(router.score, [query], [annotation])
        load_s = self._load_s(scores.experts)
        (selection,) = select(composed, self.registry, [query], scores, load_s)
        logger.debug("%s: %s: %s", query.id, selection.reason, selection.ranking)
        return selection, spans, outcomes

    def _load_s(self, experts: Sequence[str]) -> Float32Array:
        """Seconds until each expert could begin with a request, [m]."""
        import numpy as np

        return np.array([self.pool.wait_seconds(name) for name in experts], dtype=np.float32)

    async def _resolve(self, selection: Selection, aggregator: Aggregator) -> None:
        """Have the models that will be asked on this disk, so that their tokens can be counted."""
        for name in aggregator.experts | {choice.expert for choice in selection.choices}:
            try:
                await self.pool.resolve(name)
            except ConfigError as exc:
                logger.debug("%s is not resolved: %s", name, exc)

    def _composed(self, name: str) -> Composed:
        if name in self.compositions:
            return self.compositions[name]
        if name in self.registry.experts and self._direct is not None:
            return self._direct(name)
        raise ConfigError(
            unknown_name("composition", name, [*self.compositions, *self.registry.experts])
        )
