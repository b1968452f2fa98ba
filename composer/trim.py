"""Leaves out experts that only a few queries of a batch would get. Pure.

In a batch each expert is loaded once, however few queries it has: a handful is not worth a load.

Source: Symbolic-MoE (arXiv 2503.05641), dinobby/Symbolic-MoE at d6c2e0d, recruit_agents.py, where
experts with less than 5 % of the batch are replaced (the function is there, no script calls it).

Deviations:
- There a random draw by how often the frequent ones were chosen replaces a rare expert, whatever
  the query. Here the best frequent expert of that query's ranking does: deterministic, and it
  stays the router's choice.
- There experts may repeat within a query. Here they stay distinct: where no frequent expert is
  left, the query has a choice less, and says so; its only choice it keeps.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

from composer.errors import ConfigError
from composer.types import Choice, Evidence, Selection, no_counterfactuals


def trim_rare(selections: Sequence[Selection], share: float = 0.05) -> list[Selection]:
    """Replace the choices of rare experts by frequent ones; any router's selections will do.

    Rare experts stay in the rankings, where failures fall back on them.

    Args:
        selections: Of one batch; those without choices stay as they are.
        share: Of all choices of the batch, in [0, 1]: an expert with less is rare.

    Returns:
        The selections, in their order.

    Raises:
        ConfigError: The share is no number in [0, 1], or every expert is rare.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"'share' is {share!r}; give a number from 0 to 1")
    counts = Counter(choice.expert for s in selections for choice in s.choices)
    total = sum(counts.values())
    frequent = {expert for expert, n in counts.items() if n >= share * total}
    if counts and not frequent:
        expert, n = counts.most_common(1)[0]
        raise ConfigError(
            f"every expert is rare: the most frequent, {expert!r}, has {n} of {total} choices; "
            f"give a share of at most {n / total:.3g}"
        )
    return [_trimmed(selection, frequent, counts, total) for selection in selections]


def _trimmed(
    selection: Selection, frequent: Collection[str], counts: Counter[str], total: int
) -> Selection:
    kept = [choice for choice in selection.choices if choice.expert in frequent]
    rare = [choice for choice in selection.choices if choice.expert not in frequent]
    if not rare:
        return selection
    chosen = {choice.expert for choice in kept}
    spare = [e for e in selection.ranking if e in frequent and e not in chosen]
    names = ", ".join(f"{c.expert!r} ({counts[c.expert]} of {total} choices)" for c in rare)
    evidence = Evidence(f"in place of rare {names}")
    in_place = [
        Choice(name, _quality(selection, name), None, lambda: evidence)
        for name in spare[: len(rare)]
    ]
    choices = (*kept, *in_place)
    if not choices:
        return selection
    first = tuple(choice.expert for choice in choices)
    shortfall = selection.shortfall
    if len(choices) < len(selection.choices):
        less = f"{len(choices)} of {len(selection.choices)} experts: no other is frequent"
        shortfall = less if shortfall is None else f"{shortfall}; {less}"
    return replace(
        selection,
        choices=choices,
        ranking=(*first, *(e for e in selection.ranking if e not in first)),
        reason=f"{selection.reason}; without rare {names}",
        shortfall=shortfall,
        margin=selection.margin if first[0] == selection.choices[0].expert else None,
        what_if=no_counterfactuals,
    )


def _quality(selection: Selection, expert: str) -> float | None:
    quality = float(selection.quality[selection.experts.index(expert)])
    return None if math.isnan(quality) else quality
