"""Whose answers are judged: a judge's own are not, unless it may judge itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from composer.aggregators.judge.settings import Judge
from composer.aggregators.proposals import Proposal
from composer.types import Selection


def candidates(judge: Judge, selection: Selection) -> tuple[str, ...]:
    """The experts that may propose, in the order of the ranking.

    Where the judge is the only expert there is it proposes, and `rank` does not ask it to judge.
    """
    others = tuple(e for e in selection.ranking if judge.judges_self or e != judge.by)
    return others or selection.ranking


def proposers(judge: Judge, selection: Selection) -> tuple[str, ...]:
    """As many of the candidates as experts were chosen: the next one stands in for the judge."""
    return candidates(judge, selection)[: len(selection.choices)]


def proposal_names(proposals: Sequence[Proposal]) -> tuple[str, ...]:
    """Each proposal's expert, and which one where an expert has several: "ann", "ben/2"."""
    counts = Counter(p.expert for p in proposals)
    seen: Counter[str] = Counter()
    names: list[str] = []
    for expert in (p.expert for p in proposals):
        seen[expert] += 1
        names.append(expert if counts[expert] == 1 else f"{expert}/{seen[expert]}")
    return tuple(names)
