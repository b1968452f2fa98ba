"""Samples pass through a sliding window, in which each answer so far is improved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Literal

from composer.aggregators.proposals import (
    Proposal,
    Proposals,
    make_answer,
    read_proposals,
    why_not,
)
from composer.aggregators.references import ask_prepared, with_references
from composer.aggregators.synthesis.self_moa import (
    TEMPERATURE,
    check_temperature,
    draw_ranked,
    needs_of_samples,
    sample_requests,
)
from composer.aggregators.synthesis.settings import (
    aggregating_expert,
    check_least,
    check_room,
    possible_readers,
)
from composer.errors import ConfigError
from composer.experts import Expert
from composer.flow import ask_many
from composer.protocols import Flow, Tools
from composer.types import Answer, Query, Request, Sampling, Selection


class SequentialAggregator:
    """Self-MoA-Seq: a prompt never holds more than `window` references, however many samples.

    The first window is aggregated to an answer; each further one holds that answer, in `reserved`
    of its slots, and the next samples. Where an aggregation fails or says nothing, what was
    written before stands: the last answer, or the first sample. With n samples there are
    1 + ceil((n - window) / (window - reserved)) aggregations.

    Source: Li et al., "Rethinking Mixture-of-Agents: Is Mixing Different Large Language Models
    Beneficial?" (arXiv 2502.00674), section 5; it has no released code, and the defaults are those
    of the framework `swarms`. What the reserved slots hold is not said there: copies of the answer
    (`reserve: copies`), or one copy, and so window - 1 new samples (`reserve: one`).
    """

    name = "sequential"

    def __init__(
        self,
        *,
        by: str | None = None,
        from_: str | None = None,
        n: int = 30,
        window: int = 6,
        reserved: int = 3,
        reserve: Literal["copies", "one"] = "copies",
        samplers: Literal["one", "selection"] = "one",
        temperature: float = TEMPERATURE,
        separate: bool = False,
        max_tokens: int | None = None,
        max_reference_tokens: int | None = None,
    ) -> None:
        """Store the settings.

        Args:
            by: The expert that aggregates; None: the one that `from_` measured, or else the first
                of whom there is a sample.
            from_: Folder of a benchmark of experts as aggregators.
            n: Samples, of all experts together.
            window: References of one aggregation, at most.
            reserved: How many of them are copies of the answer so far.
            reserve: `one` puts it there once, whatever `reserved` says.
            samplers: Whether the first of the ranking that answers gives all samples, or the
                selection's choices give them in turn.
            temperature: Of the samples.
            separate: Ask for each sample in a request of its own.
            max_tokens: Of each text, and what a prompt leaves free of the context; None: as
                experts' own settings say, and 256.
            max_reference_tokens: What a prompt may grow by; None: to what the context holds.

        Raises:
            ConfigError: A setting is out of range, or the benchmark cannot be read.
        """
        check_least(self.name, 2, window=window)
        check_least(self.name, 1, n=n, reserved=reserved, max_tokens=max_tokens)
        check_least(self.name, 1, max_reference_tokens=max_reference_tokens)
        check_temperature(self.name, temperature)
        if reserved >= window:
            raise ConfigError(
                f"aggregator {self.name!r}: 'reserved' is {reserved} and 'window' {window}, which "
                "leaves no slot for a new sample; lower 'reserved', or raise 'window'"
            )
        self.needs = needs_of_samples(separate=separate)
        self._by = aggregating_expert(self.name, by, from_)
        self.experts = frozenset[str]() if self._by is None else frozenset({self._by})
        self._n = n
        self._window = window
        self._copies = reserved if reserve == "copies" else 1
        self._samplers = samplers
        self._separate = separate
        self._drawing = Sampling(temperature=temperature, max_tokens=max_tokens, n=n)
        self._aggregating = Sampling(max_tokens=max_tokens, n=1)
        self._max_reference_tokens = max_reference_tokens

    def check(self, experts: Mapping[str, Expert], k: int) -> None:
        """See `Aggregator.check`: a window has room in the context."""
        readers = possible_readers(self.name, self._by, experts)
        n_references = min(self._window, self._n)
        check_room(self.name, experts, readers, n_references, self._aggregating.max_tokens)

    def combine(self, query: Query, selection: Selection, tools: Tools) -> Flow[Answer]:
        """See `Aggregator.combine`."""
        drawn = yield from self._draw(query, selection, tools)
        by = self._by or drawn.said[0].expert
        windows = split_windows(drawn.said, self._window, self._copies)
        reason = f"{by} synthesised {len(drawn.said)} samples in {len(windows)} windows"
        failures = list(drawn.failures)
        answers: list[Proposal] = []
        for step, new in enumerate(windows, start=1):
            request = Request(
                f"{query.id}/aggregate/{by}/{step}",
                by,
                query.messages,
                self._aggregating,
                final=step == len(windows),
                purpose="aggregate",
            )
            texts = [reference.text for reference in (*answers[-1:] * self._copies, *new)]
            prepared = with_references(request, [texts], tools, self._max_reference_tokens)
            (outcome,) = yield from ask_prepared([prepared], tools)
            written = read_proposals([outcome])
            failures += written.failures
            if not written.said:
                stands = f"the answer of window {step - 1}" if answers else "the first sample"
                reason = f"{stands}, because {why_not(outcome)}"
                break
            answers += written.said
        details = {
            "by": by,
            "samples": tuple(sample.expert for sample in drawn.said),
            "windows": tuple(map(len, windows)),
            "aggregations": len(answers),
            "silent": drawn.silent,
            "failed": tuple(f.expert for f in drawn.failures),
            "synthesised": len(answers) == len(windows),
        }
        chosen = answers[-1] if answers else drawn.said[0]
        return make_answer(query, self.name, chosen, reason, details, failures)

    def _draw(self, query: Query, selection: Selection, tools: Tools) -> Flow[Proposals]:
        if self._samplers == "selection":
            experts = [choice.expert for choice in selection.choices]
            return draw_in_turn(query, experts, self._drawing, tools, separate=self._separate)
        return draw_ranked(query, selection.ranking, self._drawing, tools, separate=self._separate)


def split_windows(
    samples: Sequence[Proposal], window: int, n_copies: int
) -> tuple[tuple[Proposal, ...], ...]:
    """The new samples of each window: the first one full, the next beside the copies."""
    size = window - n_copies
    later = range(window, len(samples), size)
    return (tuple(samples[:window]), *(tuple(samples[i : i + size]) for i in later))


def draw_in_turn(
    query: Query, experts: Sequence[str], sampling: Sampling, tools: Tools, *, separate: bool
) -> Flow[Proposals]:
    """`sampling.n` samples, shared out among experts, the first ones the larger share.

    They come in turn: the first of each, then the second of each.

    Raises:
        AggregationError: Nobody gives one; the message names each failure.
    """
    n = sampling.n or 1
    shares = [len(range(i, n, len(experts))) for i in range(len(experts))]
    requests = [
        request
        for expert, share in zip(experts, shares, strict=True)
        if share
        for request in sample_requests(query, expert, replace(sampling, n=share), separate=separate)
    ]
    drawn = read_proposals((yield from ask_many(requests, tools)), samples=None)
    drawn.require()
    by_expert = [[p for p in drawn.said if p.expert == expert] for expert in experts]
    turns = zip_longest(*by_expert)
    return replace(drawn, said=tuple(p for turn in turns for p in turn if p is not None))
