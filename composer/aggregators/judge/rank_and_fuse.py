"""A judge ranks the proposals, and one expert writes the answer from the best of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from composer.aggregators.judge.proposers import proposal_names, proposers
from composer.aggregators.judge.ranking import Ranking, rank
from composer.aggregators.judge.settings import Mode, check_judge, make_judge
from composer.aggregators.proposals import make_answer, read_proposals, why_not
from composer.aggregators.references import ask_prepared, with_references
from composer.errors import ConfigError
from composer.experts import Expert
from composer.flow import ask_many
from composer.protocols import AggregatorNeed, Flow, Tools
from composer.suggest import unknown_name
from composer.types import Answer, Outcome, Query, Request, Selection


class RankAndFuseAggregator:
    """Ranks the proposals as `JudgeAggregator` does, then fuses the top ones in one answer.

    A judge that fails leaves the order of the experts' ranking; a fuser that fails leaves the first
    proposal of the order as the answer. `reason` and `details` say so. A single proposal is the
    answer.

    Calls, of c > 1 proposals: k, then the judge's, then one; see `rank_and_fuse_calls`.

    Source: Jiang et al., "LLM-Blender: Ensembling Large Language Models with Pairwise Ranking and
    Generative Fusion" (arXiv 2306.02561), sections 3 and 4. Deviations: experts that are told to
    judge and to fuse stand for the trained ranker and fuser, so the fusing prompt is that of
    Mixture-of-Agents (`SYNTHESIS`); and a merge sort compares about c log c pairs, in both orders,
    where the paper's ranking compares all.
    """

    name = "rank-and-fuse"
    needs: frozenset[AggregatorNeed] = frozenset()

    def __init__(
        self,
        *,
        by: str,
        fuser: str | None = None,
        fuse: int = 3,
        mode: Mode = "pairwise",
        max_reference_tokens: int | None = None,
        rubric: str | None = None,
        samples: int = 1,
        judge_temperature: float | None = None,
        judge_self: bool = False,
        constrained: bool = True,
    ) -> None:
        """Store the settings; those not listed are the judge's, see `JudgeAggregator`.

        Args:
            by: The judge.
            fuser: The expert that writes the answer; None: the judge.
            fuse: How many proposals it writes from, at most.
            mode: See `JudgeAggregator`.
            max_reference_tokens: What the fusing prompt may grow by, in the fuser's tokens; None:
                to what its context holds beside the answer.
            rubric: What the judge looks at.
            samples: Judgements of each proposal or comparison.
            judge_temperature: To draw these at.
            judge_self: Let the judge propose as well, and judge that.
            constrained: Have the judge's engine write nothing but the JSON asked for.

        Raises:
            ConfigError: A value is out of range.
        """
        if fuse < 2:
            raise ConfigError(
                f"aggregator 'rank-and-fuse': 'fuse' is {fuse}; set 2 or more, or name the "
                "aggregator 'judge', which takes the best proposal as it is"
            )
        if max_reference_tokens is not None and max_reference_tokens < 1:
            raise ConfigError(
                f"aggregator 'rank-and-fuse': 'max_reference_tokens' is {max_reference_tokens}; "
                "set 1 or more, or leave it out"
            )
        self._judge = make_judge(
            self.name,
            by,
            rubric=rubric,
            samples=samples,
            judge_temperature=judge_temperature,
            constrained=constrained,
            judge_self=judge_self,
        )
        self._fuser = by if fuser is None else fuser
        self.experts = frozenset({by, self._fuser})
        self._fuse = fuse
        self._mode: Mode = mode
        self._max_reference_tokens = max_reference_tokens

    def check(self, experts: Mapping[str, Expert], k: int) -> None:
        """See `Aggregator.check`."""
        check_judge(self.name, self._judge, experts)
        if self._fuser not in experts:
            raise ConfigError(
                f"aggregator {self.name!r}: 'fuser': {unknown_name('expert', self._fuser, experts)}"
            )

    def combine(self, query: Query, selection: Selection, tools: Tools) -> Flow[Answer]:
        """See `Aggregator.combine`."""
        experts = proposers(self._judge, selection)
        requests = [Request(f"{query.id}/propose/{e}", e, query.messages) for e in experts]
        proposed = read_proposals((yield from ask_many(requests, tools)))
        proposed.require()
        ranking = yield from rank(self._mode, self._judge, query, proposed.said, tools)
        names = proposal_names(proposed.said)
        failures = [*proposed.failures, *ranking.failures]
        fused = ranking.order[: self._fuse] if len(names) > 1 else ()
        chosen, reason = proposed.said[ranking.order[0]], "the only proposal"
        if fused:
            outcome = yield from self._write(query, [proposed.said[i].text for i in fused], tools)
            written = read_proposals([outcome])
            failures += written.failures
            if written.said:
                chosen = written.said[0]
                reason = f"{self._fuser} fused {len(fused)} of {len(names)} proposals"
            else:
                fused = ()
                reason = f"the first proposal, because {why_not(outcome)}; ranked"
            reason += self._ordered(ranking)
        details = {
            "by": self._judge.by,
            "fuser": self._fuser,
            "mode": self._mode,
            "ranking": tuple(names[i] for i in ranking.order),
            "judged": ranking.why_not is None,
            "fused": tuple(names[i] for i in fused),
            "silent": proposed.silent,
            "failed": tuple(f.expert for f in proposed.failures),
            **ranking.evidence,
        }
        return make_answer(query, self.name, chosen, reason, details, failures)

    def _write(self, query: Query, texts: Sequence[str], tools: Tools) -> Flow[Outcome]:
        """Ask the fuser for the answer."""
        request = Request(
            f"{query.id}/aggregate/{self._fuser}",
            self._fuser,
            query.messages,
            final=True,
            purpose="aggregate",
        )
        prepared = with_references(request, [texts], tools, self._max_reference_tokens)
        (outcome,) = yield from ask_prepared([prepared], tools)
        return outcome

    def _ordered(self, ranking: Ranking) -> str:
        if ranking.why_not is None:
            return f" in the order of {self._judge.by}"
        return f" in the order of their experts, because {ranking.why_not}"
