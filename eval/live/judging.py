"""Answers of experts and compositions -> decisions on one ladder, its rows, and attributions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from eval.live.attribution import Attribution, Made, attribute
from eval.live.entries import Entry
from eval.live.folder import Options
from eval.live.records import Record
from eval.replay.judged import Decision, Judged
from eval.replay.ladder import LADDER, fixed
from eval.replay.parts import Part
from eval.replay.rows import Row, make_rows

BELOW = ("random", "best-single", "category-expert")
ABOVE = ("category-hindsight", "oracle")
KNOWING = frozenset({"category-expert", "category-hindsight"})
"""Rungs that know the category whatever compositions are told."""


def judge_experts(part: Part) -> list[Judged]:
    """The rungs below all compositions, and each expert alone, with their samples."""
    (each,) = part.rounds
    below = [LADDER[name](each) for name in BELOW]
    below += [fixed(each, expert=name) for name in part.judged.names]
    return [replace(j, settings={**j.settings, "samples": 1}) for j in below]


def best_single(below: Sequence[Judged]) -> Judged:
    """The best single expert, among what `judge_experts` found."""
    return next(each for each in below if each.method == "best-single")


def judge_ladder(part: Part, below: Sequence[Judged], entries: Sequence[Entry]) -> list[Judged]:
    """All methods of a run, in the order of its rows."""
    (each,) = part.rounds
    own = [judge_composition(entry, part.judged.names) for entry in entries]
    # What looks at the answers of all experts before it chooses has no number of samples.
    return [*below, *own, *(LADDER[name](each) for name in ABOVE)]


def judge_composition(entry: Entry, experts: Sequence[str]) -> Judged:
    """What a composition did, as decisions, as if it were replayed.

    Predicted qualities are kept where an expert's answer is the composition's, and so is judged.

    Args:
        entry: The composition.
        experts: The columns of the table.
    """
    composed, records = entry.composed, entry.records
    is_choice = composed.aggregator.name == "best"
    settings = {
        "router": composed.router.name,
        "k": composed.rule.k,
        "aggregator": composed.aggregator.name,
        "samples": round(entry.samples, 2),
    }
    quality = None
    if is_choice:
        told = [[record.answered.quality.get(name) for name in experts] for record in records]
        quality = np.array([[_number(each) for each in row] for row in told], np.float32)
    decisions = tuple(_decision(record, is_choice=is_choice) for record in records)
    return Judged(entry.method, decisions, {**entry.settings, **settings}, quality)


def ladder_rows(part: Part, judged: Sequence[Judged], options: Options) -> list[Row]:
    """The rows of all methods, each with n and intervals."""
    known = options.known_category
    told = {each.method: known or each.method in KNOWING for each in judged}
    return make_rows(part, judged, told, seed=options.seed)


def attribute_all(
    part: Part, below: Sequence[Judged], entries: Sequence[Entry], options: Options
) -> list[Attribution]:
    """Take the gains over the best single expert apart: of all that ask experts.

    Args:
        part: The experts' own answers.
        below: What `judge_experts` found.
        entries: The compositions.
        options: Its seed is that of the intervals.
    """
    singles = [each for each in below if each.method != "random"]
    made = [*map(_made_by_expert, singles), *map(_made_by_composition, entries)]
    return attribute(part.judged, best_single(below).score, made, seed=options.seed)


def _made_by_expert(judged: Judged) -> Made:
    """A rung that asks one expert a query."""
    experts = [decision.expert for decision in judged.decisions]
    return Made(judged.method, judged.score, experts, [d.asked for d in judged.decisions], 1.0)


def _made_by_composition(entry: Entry) -> Made:
    answered = [record.answered for record in entry.records]
    return Made(
        entry.method,
        np.array([record.score for record in entry.records]),
        [next(iter(each.chosen), None) for each in answered],
        [each.panel for each in answered],
        entry.samples,
    )


def _decision(record: Record, *, is_choice: bool) -> Decision:
    answered = record.answered
    return Decision(
        answered.id,
        answered.expert,
        answered.asked,
        record.score,
        _number(answered.cost_usd),
        _number(answered.predicted) if is_choice else math.nan,
        failed=answered.answer is None,
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else value
