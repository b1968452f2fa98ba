"""Requests whose prompts are read in parts keep their generators for tokens that count."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from composer.backends.vllm_seeds import spare_seeds


class Runner:
    """Draws a token for each row of a batch, and winds back those that are dropped, as vLLM does.

    A generator of a CPU cannot be wound back.
    """

    def __init__(self, seeds: list[int | None]) -> None:
        generators = {
            row: torch.Generator().manual_seed(seed)
            for row, seed in enumerate(seeds)
            if seed is not None
        }
        self.input_batch = SimpleNamespace(num_reqs=len(seeds), generators=generators)
        self.discard_request_mask = SimpleNamespace(np=np.zeros(len(seeds) + 3, np.bool_))

    def _sample(self) -> list[float]:
        own = self.input_batch.generators
        rows = range(self.input_batch.num_reqs)
        return [float(torch.rand(1, generator=own.get(row))) for row in rows]

    def _bookkeeping_sync(self) -> None:
        for row in np.nonzero(self.discard_request_mask.np)[0].tolist():
            if row in self.input_batch.generators:
                self.input_batch.generators[row].set_offset(0)

    def step(self, dropped: set[int]) -> list[float]:
        """What is drawn for each row; that of `dropped` rows nobody gets."""
        self.discard_request_mask.np[:] = False
        self.discard_request_mask.np[list(dropped)] = True
        drawn = self._sample()
        self._bookkeeping_sync()
        return drawn


@given(st.data())
def test_tokens_that_count_are_those_of_the_seed_whatever_was_dropped(data: Any) -> None:
    seeds = data.draw(st.lists(st.none() | st.integers(0, 99), min_size=1, max_size=4))
    steps = data.draw(st.lists(st.sets(st.integers(0, len(seeds) - 1)), max_size=5))
    runner = Runner(seeds)
    spare_seeds(runner)
    before = dict(runner.input_batch.generators)

    counted: list[list[float]] = [[] for _ in seeds]
    for dropped in steps:
        for row, value in enumerate(runner.step(dropped)):
            if row not in dropped:
                counted[row].append(value)

    assert runner.input_batch.generators == before
    for seed, values in zip(seeds, counted, strict=True):
        if seed is not None:
            own = torch.Generator().manual_seed(seed)
            assert values == [float(torch.rand(1, generator=own)) for _ in values]
