"""Mixture of Thoughts: one expert writes while it attends to its peers' states."""

from __future__ import annotations

from collections.abc import Mapping

from composer.errors import AggregationError, ConfigError
from composer.experts import Expert
from composer.flow import ask_one, ask_ranked, describe_failures
from composer.protocols import AggregatorNeed, Flow, Tools
from composer.suggest import unknown_name
from composer.types import Answer, Completion, Failure, Query, Request, Selection

MIN_THINKERS = 2


class CrossAttentionAggregator:
    """A group's primary answers, attending to its peers; where the group fails, experts do alone.

    Source: Mixture of Thoughts (arXiv 2509.21164): the router's first choice is the primary, the
    other experts that it chose are the peers. Deviation: chosen experts that are not in the group
    have no part, and where fewer than two are, all its members have.
    """

    name = "cross-attention"
    needs: frozenset[AggregatorNeed] = frozenset()

    def __init__(self, by: str, *, primary: str | None = None) -> None:
        """Store the settings.

        Args:
            by: The group, an expert of engine latent.
            primary: The member that writes; None: the first of those that the router chose.
        """
        self.experts: frozenset[str] = frozenset({by})
        self._by = by
        self._primary = primary
        self._members: tuple[str, ...] = ()

    def check(self, experts: Mapping[str, Expert], k: int) -> None:
        """See `Aggregator.check`; the group's members are kept."""
        if self._by not in experts:
            raise ConfigError(
                f"aggregator {self.name!r}: {unknown_name('expert', self._by, experts)}"
            )
        group = experts[self._by]
        if group.engine != "latent":
            groups = [name for name, expert in experts.items() if expert.engine == "latent"]
            known = f"name one of {groups}" if groups else "add an expert of engine latent"
            raise ConfigError(
                f"aggregator {self.name!r}: {self._by!r} runs on {group.engine!r} and is no group "
                f"whose members attend to one another; {known}"
            )
        self._members = group.members
        if self._primary is not None and self._primary not in group.members:
            raise ConfigError(
                f"aggregator {self.name!r}: "
                f"{unknown_name('member', self._primary, list(group.members))}"
            )

    def combine(self, query: Query, selection: Selection, tools: Tools) -> Flow[Answer]:
        """See `Aggregator.combine`."""
        thinkers = self._thinkers([choice.expert for choice in selection.choices])
        together = Request(
            f"{query.id}/aggregate/{self._by}",
            self._by,
            query.messages,
            peers=thinkers,
            mix="attend",
            final=True,
            purpose="aggregate",
        )
        outcome = yield from ask_one(together, tools)
        if isinstance(outcome, Completion):
            reason = f"the experts of {self._by} wrote it together"
            if thinkers:
                reason = f"{thinkers[0]} wrote it, attending to {', '.join(thinkers[1:])}"
            return self._answer(query, outcome, reason, thinkers, ())

        def alone(expert: str) -> Request:
            return Request(f"{query.id}/propose/{expert}", expert, query.messages, final=True)

        try:
            completion, failures = yield from ask_ranked(selection, alone, tools)
        except AggregationError as exc:
            raise AggregationError(f"{describe_failures([outcome])}; {exc}") from None
        reason = f"{completion.expert} wrote it alone, because the group failed: {outcome.message}"
        return self._answer(query, completion, reason, (), (outcome, *failures))

    def _thinkers(self, chosen: list[str]) -> tuple[str, ...]:
        """Who takes part, the primary first."""
        members = [name for name in chosen if name in self._members]
        if self._primary is not None:
            members = list(dict.fromkeys([self._primary, *members]))
        if len(members) < MIN_THINKERS:
            members = list(dict.fromkeys([*members, *self._members]))
        return tuple(members)

    def _answer(
        self,
        query: Query,
        completion: Completion,
        reason: str,
        thinkers: tuple[str, ...],
        failures: tuple[Failure, ...],
    ) -> Answer:
        return Answer(
            query_id=query.id,
            text=completion.text,
            expert=completion.expert,
            aggregator=self.name,
            finish_reason=completion.samples[0].finish_reason,
            reason=reason,
            details={"primary": thinkers[0] if thinkers else None, "peers": list(thinkers[1:])},
            failures=failures,
        )
