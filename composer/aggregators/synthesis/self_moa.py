"""One expert answers several times, and writes the answer from what it said."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from composer.aggregators.proposals import Proposal, Proposals, make_answer, read_proposals, why_not
from composer.aggregators.references import ask_prepared, with_references
from composer.aggregators.synthesis.settings import check_least, check_room, possible_readers
from composer.errors import ConfigError
from composer.experts import Expert
from composer.flow import ask_many
from composer.protocols import AggregatorNeed, Flow, Tools
from composer.types import Answer, Failure, Query, Request, Sampling, Selection

TEMPERATURE = 0.7
"""Of samples, as in the published configurations of Self-MoA."""


class SelfMoaAggregator:
    """A Mixture-of-Agents of one expert: n samples, then one aggregation by the same.

    Where all samples of an expert fail, the next of the ranking takes over. Where the aggregation
    fails or says nothing, the first sample is the answer.

    Source: Li et al., "Rethinking Mixture-of-Agents: Is Mixing Different Large Language Models
    Beneficial?" (arXiv 2502.00674), section 3, where the best model is known beforehand; here the
    router chooses it, or `by` names it. Deviation: the aggregation samples as the expert's own
    settings say.
    """

    name = "self-moa"

    def __init__(
        self,
        *,
        by: str | None = None,
        n: int = 6,
        temperature: float = TEMPERATURE,
        separate: bool = False,
        max_tokens: int | None = None,
        max_reference_tokens: int | None = None,
    ) -> None:
        """Store the settings.

        Args:
            by: The expert; None: the selection's first choice.
            n: Samples.
            temperature: Of the samples.
            separate: Ask for each sample in a request of its own, with a seed of its own, since
                the engine gives one text a request; else one request asks for all.
            max_tokens: Of each text, and what a prompt leaves free of the context; None: as the
                expert's own settings say, and 256.
            max_reference_tokens: What the prompt may grow by; None: to what the context holds.

        Raises:
            ConfigError: A setting is out of range.
        """
        check_least(self.name, 2, n=n)
        check_least(self.name, 1, max_tokens=max_tokens, max_reference_tokens=max_reference_tokens)
        check_temperature(self.name, temperature)
        self.needs = needs_of_samples(separate=separate)
        self.experts = frozenset[str]() if by is None else frozenset({by})
        self._by = by
        self._n = n
        self._separate = separate
        self._drawing = Sampling(temperature=temperature, max_tokens=max_tokens, n=n)
        self._aggregating = Sampling(max_tokens=max_tokens, n=1)
        self._max_reference_tokens = max_reference_tokens

    def check(self, experts: Mapping[str, Expert], k: int) -> None:
        """See `Aggregator.check`: the samples have room in the context."""
        readers = possible_readers(self.name, self._by, experts)
        check_room(self.name, experts, readers, self._n, self._aggregating.max_tokens)

    def combine(self, query: Query, selection: Selection, tools: Tools) -> Flow[Answer]:
        """See `Aggregator.combine`."""
        drawn = yield from draw_ranked(
            query, ranked(self._by, selection), self._drawing, tools, separate=self._separate
        )
        by = drawn.said[0].expert
        request = Request(
            f"{query.id}/aggregate/{by}",
            by,
            query.messages,
            self._aggregating,
            final=True,
            purpose="aggregate",
        )
        texts = [sample.text for sample in drawn.said]
        prepared = with_references(request, [texts], tools, self._max_reference_tokens)
        (outcome,) = yield from ask_prepared([prepared], tools)
        written = read_proposals([outcome])
        if written.said:
            chosen, reason = written.said[0], f"{by} synthesised {len(texts)} samples of its own"
        else:
            chosen, reason = drawn.said[0], f"the first sample, because {why_not(outcome)}"
        details = {
            "by": by,
            "samples": len(texts),
            "silent": drawn.silent,
            "failed": tuple(f.expert for f in drawn.failures),
            "synthesised": bool(written.said),
        }
        failures = (*drawn.failures, *written.failures)
        return make_answer(query, self.name, chosen, reason, details, failures)


def needs_of_samples(*, separate: bool) -> frozenset[AggregatorNeed]:
    """What drawing samples asks of engines."""
    return frozenset() if separate else frozenset({"n"})


def check_temperature(aggregator: str, temperature: float) -> None:
    """Refuse greedy samples.

    Raises:
        ConfigError: The temperature is not positive.
    """
    if temperature <= 0:
        raise ConfigError(
            f"aggregator {aggregator!r}: 'temperature' is {temperature}, at which all samples are "
            f"alike; set more than 0, such as {TEMPERATURE}"
        )


def ranked(by: str | None, selection: Selection) -> tuple[str, ...]:
    """Whom to ask, one after the other: the expert that is named, then the ranking."""
    first = () if by is None else (by,)
    return tuple(dict.fromkeys((*first, *selection.ranking)))


def draw_ranked(
    query: Query, experts: Sequence[str], sampling: Sampling, tools: Tools, *, separate: bool
) -> Flow[Proposals]:
    """The samples of the first expert that gives one, with who failed or was silent before it.

    Raises:
        AggregationError: None gives one; the message names each failure.
    """
    silent: list[str] = []
    failures: list[Failure] = []
    said: tuple[Proposal, ...] = ()
    for expert in experts:
        requests = sample_requests(query, expert, sampling, separate=separate)
        drawn = read_proposals((yield from ask_many(requests, tools)), samples=None)
        silent += drawn.silent
        failures += drawn.failures
        if said := drawn.said:
            break
    found = Proposals(said, tuple(silent), tuple(failures))
    found.require()
    return found


def sample_requests(
    query: Query, expert: str, sampling: Sampling, *, separate: bool
) -> tuple[Request, ...]:
    """The request for `sampling.n` samples of an expert, or one for each; seeded by the query."""
    seed = int.from_bytes(hashlib.sha256(query.id.encode()).digest()[:4]) >> 1
    base = Request(
        f"{query.id}/propose/{expert}", expert, query.messages, replace(sampling, seed=seed)
    )
    if not separate:
        return (base,)
    return tuple(
        replace(base, id=f"{base.id}/{number}", sampling=replace(sampling, n=1, seed=seed + number))
        for number in range(1, (sampling.n or 1) + 1)
    )
