"""The selected experts propose, in one layer or several, and one expert writes the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from composer.aggregators.proposals import (
    Proposal,
    Proposals,
    make_answer,
    read_proposals,
    why_not,
)
from composer.aggregators.references import ask_prepared, with_references
from composer.aggregators.synthesis.settings import (
    aggregating_expert,
    check_least,
    check_room,
    possible_readers,
)
from composer.errors import ConfigError
from composer.experts import Expert
from composer.flow import ask_many
from composer.protocols import AggregatorNeed, Flow, Tools
from composer.types import Answer, Failure, Query, Request, Sampling, Selection


class SynthesisAggregator:
    """A Mixture-of-Agents.

    The selected experts propose. In each further layer they propose again, with the layer before
    as references; last, the aggregating expert answers with the last layer as references. A
    proposer that fails or says nothing is left out from then on. Where a further layer comes to
    too little, the layer before it goes to the aggregating expert; where that one fails or says
    nothing, the best-ranked proposal of the last layer is the answer, and `reason` and `details`
    say so.

    Source: Wang et al., "Mixture-of-Agents Enhances Large Language Model Capabilities"
    (arXiv 2406.04692), section 2.2, and togethercomputer/MoA. Deviations: experts sample as their
    own settings say unless `temperature` is set (there 0.7), the aggregating one always; who
    failed once is not asked again, so that nobody waits for a dead expert in each layer; and
    references are without reasoning and cut to the context of their reader, the longest first.
    """

    name = "synthesis"
    needs: frozenset[AggregatorNeed] = frozenset()

    def __init__(
        self,
        *,
        by: str | None = None,
        from_: str | None = None,
        layers: int = 1,
        carry: Literal["last", "all"] = "last",
        min_proposals: int = 1,
        temperature: float | None = None,
        max_tokens: int | None = None,
        max_reference_tokens: int | None = None,
    ) -> None:
        """Store the settings.

        Args:
            by: The expert that aggregates; None: the one that `from_` measured, or else the
                best-ranked proposer, which is the selection's first choice unless that failed.
            from_: Folder of a benchmark of experts as aggregators; the best of all that were
                measured aggregates, whomever the router chooses.
            layers: How often the experts propose.
            carry: Whether references are the layer before alone, as in the source, or all so far;
                where these do not fit, the oldest layers are dropped.
            min_proposals: Fewer in the first layer are an error; fewer in a further one end the
                layers.
            temperature: Of the proposals; None: as their experts' own settings say.
            max_tokens: Of each text, and what its prompt leaves free of the context; None: as
                experts' own settings say, and 256.
            max_reference_tokens: What a prompt may grow by, in its reader's tokens; None: to what
                the context holds beside the answer.

        Raises:
            ConfigError: A setting is out of range, or the benchmark cannot be read.
        """
        check_least(self.name, 1, layers=layers, min_proposals=min_proposals)
        check_least(self.name, 1, max_tokens=max_tokens, max_reference_tokens=max_reference_tokens)
        check_least(self.name, 0, temperature=temperature)
        self._by = aggregating_expert(self.name, by, from_)
        self.experts = frozenset[str]() if self._by is None else frozenset({self._by})
        self._layers = layers
        self._carry = carry
        self._min_proposals = min_proposals
        self._proposing = Sampling(temperature=temperature, max_tokens=max_tokens, n=1)
        self._aggregating = Sampling(max_tokens=max_tokens, n=1)
        self._max_reference_tokens = max_reference_tokens

    def check(self, experts: Mapping[str, Expert], k: int) -> None:
        """See `Aggregator.check`: enough proposers, and room for references in every reader."""
        if self._min_proposals > k:
            raise ConfigError(
                f"aggregator {self.name!r}: 'min_proposals' is {self._min_proposals} and {k} "
                "experts are chosen; lower it, or raise choose.k"
            )
        readers = possible_readers(self.name, self._by, experts)
        if self._layers > 1:
            readers = tuple(dict.fromkeys((*readers, *experts)))
        check_room(self.name, experts, readers, k, self._aggregating.max_tokens)

    def combine(self, query: Query, selection: Selection, tools: Tools) -> Flow[Answer]:
        """See `Aggregator.combine`."""
        requests = [
            Request(f"{query.id}/propose/{e.expert}", e.expert, query.messages, self._proposing)
            for e in selection.choices
        ]
        proposals = read_proposals((yield from ask_many(requests, tools)))
        proposals.require(self._min_proposals)
        silent, failures = list(proposals.silent), list(proposals.failures)
        layers = [proposals.said]
        while len(layers) < self._layers:
            again = yield from self._propose_again(query, layers, tools)
            silent += again.silent
            failures += again.failures
            if len(again.said) < self._min_proposals:
                break
            layers.append(again.said)
        by = self._by or layers[-1][0].expert
        asked = Request(
            f"{query.id}/aggregate/{by}",
            by,
            query.messages,
            self._aggregating,
            final=True,
            purpose="aggregate",
        )
        (outcome,) = yield from ask_prepared([self._referring(asked, layers, tools)], tools)
        written = read_proposals([outcome])
        failures += written.failures
        if written.said:
            chosen, reason = written.said[0], f"{by} synthesised {len(layers[-1])} proposals"
        else:
            chosen = layers[-1][0]
            reason = f"the best-ranked proposal, because {why_not(outcome)}"
        details = {
            "by": by,
            "proposers": tuple(p.expert for p in layers[-1]),
            "layers": tuple(tuple(p.expert for p in layer) for layer in layers),
            "silent": tuple(silent),
            "failed": tuple(f.expert for f in failures if f.request_id != asked.id),
            "synthesised": bool(written.said),
        }
        return make_answer(query, self.name, chosen, reason, details, failures)

    def _propose_again(
        self, query: Query, layers: Sequence[Sequence[Proposal]], tools: Tools
    ) -> Flow[Proposals]:
        number = len(layers) + 1
        requests = [
            Request(
                f"{query.id}/propose/{p.expert}/{number}", p.expert, query.messages, self._proposing
            )
            for p in layers[-1]
        ]
        prepared = [self._referring(request, layers, tools) for request in requests]
        return read_proposals((yield from ask_prepared(prepared, tools)))

    def _referring(
        self, request: Request, layers: Sequence[Sequence[Proposal]], tools: Tools
    ) -> Request | Failure:
        carried = layers if self._carry == "all" else layers[-1:]
        texts = [[proposal.text for proposal in layer] for layer in carried]
        return with_references(request, texts, tools, self._max_reference_tokens)
