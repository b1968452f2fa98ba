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
from collections.abc import Collection, Mapping, Sequence
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
    counts = Counter(choice.expert for s in selections for choice in s.choices)
    rare = rare_experts(counts, share)
    frequent = counts.keys() - rare.keys()
    return [trimmed(selection, frequent, rare, counts.total()) for selection in selections]


def rare_experts(counts: Mapping[str, int], share: float) -> dict[str, int]:
    """The experts with less than a share of all choices, with how many they have.

    Args:
        counts: Choices of each expert that has any.
        share: In [0, 1].

    Raises:
        ConfigError: The share is no number in [0, 1], or every expert is rare.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"the least share of choices is {share!r}; give a number from 0 to 1")
    total = sum(counts.values())
    rare = {expert: n for expert, n in counts.items() if n < share * total}
    if rare and len(rare) == len(counts):
        expert, n = max(counts.items(), key=lambda item: item[1])
        raise ConfigError(
            f"every expert is rare: the most frequent, {expert!r}, has {n} of {total} choices; "
            f"give a share of at most {math.floor(1000 * n / total) / 1000:g}"
        )
    return rare


def trimmed(
    selection: Selection, frequent: Collection[str], counts: Mapping[str, int], total: int
) -> Selection:
    """A selection without the rare experts, as `trim_rare` replaces them.

    Args:
        selection: Of one query.
        frequent: Who may be chosen.
        counts: Choices of each rare expert.
        total: Choices of all experts.
    """
    kept = [choice for choice in selection.choices if choice.expert in frequent]
    rare = [choice for choice in selection.choices if choice.expert not in frequent]
    if not rare:
        return selection
    chosen = {choice.expert for choice in kept}
    spare = [e for e in selection.ranking if e in frequent and e not in chosen]
    names = with_counts([choice.expert for choice in rare], counts, total)
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


def with_counts(names: Sequence[str], counts: Mapping[str, int], total: int) -> str:
    """Rare experts with how many choices they have."""
    return ", ".join(f"{name!r} ({counts[name]} of {total} choices)" for name in names)


def _quality(selection: Selection, expert: str) -> float | None:
    quality = float(selection.quality[selection.experts.index(expert)])
    return None if math.isnan(quality) else quality
