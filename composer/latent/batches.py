"""Requests in the engine of a group, and the batches that their texts are written in."""

from __future__ import annotations

import time
from collections.abc import Sequence

from torch import Tensor

from composer.latent.decoding import Cohort
from composer.latent.reading import Reading
from composer.latent.writing import Writing
from composer.types import Completion, Delta, Failure, Request, Sample

Event = Delta | Completion | Failure
Who = tuple[int, ...]
"""Numbers of the experts that take part, the primary first."""


class Run:
    """One request in the engine."""

    def __init__(
        self, request: Request, who: Who, prompts: dict[int, Reading], *, stream: bool
    ) -> None:
        self.request = request
        self.who = who
        self.prompts = prompts
        self.stream = stream
        self.writings: list[Writing] = []
        self.started_s = time.perf_counter()

    def completion(self, samples: tuple[Sample, ...]) -> Completion:
        """Prompt tokens are those that all experts read."""
        return Completion(
            self.request.id,
            self.request.expert,
            samples,
            sum(map(len, self.prompts.values())),
            generating_s=time.perf_counter() - self.started_s,
            peers=self.request.peers,
        )


class Batch:
    """Texts that began together."""

    def __init__(self, cohort: Cohort, runs: Sequence[Run]) -> None:
        self.cohort = cohort
        self._runs = {run.request.id: run for run in runs}
        self.writings = [writing for run in runs for writing in run.writings]

    def take(self, scores: Tensor) -> list[Event]:
        """Write the next token of each text; those that end with it leave."""
        events: list[Event] = []
        for row, writing in enumerate(self.writings):
            writing.take(scores[row])
            run = self._runs[writing.request.id]
            if run.stream and writing.sample == 0 and (piece := writing.fresh()):
                events.append(Delta(run.request.id, run.request.expert, piece))
            if writing.finish_reason and all(w.finish_reason for w in run.writings):
                events.append(run.completion(tuple(w.finished() for w in run.writings)))
        self.keep([writing for writing in self.writings if writing.finish_reason is None])
        return events

    def keep(self, writings: list[Writing]) -> None:
        """Go on with these alone."""
        if len(writings) < len(self.writings):
            rows = [self.writings.index(writing) for writing in writings]
            self.writings = writings
            if rows:
                self.cohort.keep(rows)
