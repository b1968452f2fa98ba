from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from composer.choose import choose
from composer.counterfactual import MOST_FACTOR, counterfactuals
from composer.experts import ChooseRule
from composer.types import Counterfactual, Evidence, Scores

if TYPE_CHECKING:
    from composer.types import Float32Array

STEP = 16
"""Amounts are multiples of 1 / STEP, so that two turns differ by much more than a hair."""
HAIR = 1e-6
NAMES = "abcde"
UNKNOWN = float("nan")


def first_choice(
    quality: Float32Array, cost: Float32Array | None, rule: ChooseRule, **other: Any
) -> str:
    names = tuple(NAMES[: quality.shape[1]])
    scores = Scores(names, quality, lambda row, column: Evidence("as told"))
    (selection,) = choose(scores, ["q"], rule, router="told", cost_usd=cost, **other)
    return selection.choices[0].expert


def found(
    quality: Float32Array, cost: Float32Array | None, rule: ChooseRule, **other: Any
) -> tuple[Counterfactual, ...]:
    names = tuple(NAMES[: quality.shape[1]])
    scores = Scores(names, quality, lambda row, column: Evidence("as told"))
    return counterfactuals(scores, 0, rule, cost_usd=cost, **other)


def row(*values: float) -> Float32Array:
    return np.array([values], np.float32)


@st.composite
def priced(draw: st.DrawFn) -> tuple[Float32Array, Float32Array, Float32Array]:
    """Qualities (some unknown), costs and seconds to load of a few experts."""
    m = draw(st.integers(1, 5))
    amounts = st.integers(0, STEP).map(lambda i: i / STEP)
    quality = draw(st.lists(amounts | st.just(UNKNOWN), min_size=m, max_size=m))
    assume(not np.isnan(quality).all())
    cost = draw(st.lists(amounts, min_size=m, max_size=m))
    load_s = draw(st.lists(amounts, min_size=m, max_size=m))
    return row(*quality), row(*cost), np.array(load_s, np.float32)


def before_and_past(flip: Counterfactual) -> tuple[float, float]:
    """The weights a hair before and a hair past a turn; 0 can be reached and not be passed."""
    hair = HAIR if flip.side == "above" else -HAIR
    return flip.turn - hair, max(0.0, flip.turn + hair)


@settings(deadline=None)
@given(priced(), st.integers(0, 32).map(lambda i: i / 8), st.sampled_from([0.0, 0.5]))
def test_the_choice_flips_a_hair_past_the_weight_of_cost_and_not_before(
    given_row: tuple[Float32Array, Float32Array, Float32Array], now: float, load_weight: float
) -> None:
    quality, cost, load_s = given_row
    rule = ChooseRule(cost_weight=now, load_weight=load_weight)

    def first_at(weight: float) -> str:
        changed = ChooseRule(cost_weight=weight, load_weight=load_weight)
        return first_choice(quality, cost, changed, load_s=load_s)

    first = first_at(now)
    flips = found(quality, cost, rule, load_s=load_s)
    steps = np.linspace(0, 2 * STEP**2, 500)[:, None]
    utility = np.nan_to_num(quality - load_weight * load_s, nan=-np.inf) - steps * cost
    firsts = np.array(list(NAMES))[np.argmax(utility, axis=1)]
    if not flips:
        assert set(firsts) == {first}
        return
    (flip,) = flips
    before, past = before_and_past(flip)
    assert (flip.weight, flip.part, flip.now) == ("cost_weight", None, now)
    assert first_at(past) == flip.expert != first
    if abs(flip.turn - now) > HAIR:
        assert first_at(before) == first
    is_nearer = abs(steps[:, 0] - now) < abs(flip.turn - now) - HAIR
    assert set(firsts[is_nearer]) <= {first}


def test_a_greater_weight_of_cost_turns_to_the_cheaper_expert() -> None:
    (flip,) = found(row(0.75, 0.5), row(0.5, 0.25), ChooseRule(cost_weight=0.5))
    assert (flip.turn, flip.expert) == (1.0, "b")
    assert flip.text == "'b' is first with a cost_weight above 1 instead of 0.5"


def test_a_tie_is_turned_on_the_side_where_the_other_is_ahead() -> None:
    above, below = row(0.75, 0.5), row(0.5, 0.75)
    (to_cheaper,) = found(above, row(0.5, 0.25), ChooseRule(cost_weight=1))
    (to_dearer,) = found(below, row(0.25, 0.5), ChooseRule(cost_weight=1))
    assert (to_cheaper.side, to_cheaper.turn, to_cheaper.expert) == ("above", 1.0, "b")
    assert (to_dearer.side, to_dearer.turn, to_dearer.expert) == ("below", 1.0, "b")


def test_a_smaller_weight_of_cost_turns_to_the_dearer_expert() -> None:
    (flip,) = found(row(0.75, 0.5), row(0.5, 0.25), ChooseRule(cost_weight=1.5))
    assert (flip.turn, flip.expert) == (1.0, "a")
    assert flip.text == "'a' is first with a cost_weight below 1 instead of 1.5"


def test_of_two_changes_the_smaller_is_given() -> None:
    quality, cost = row(0.75, 0.5, 0.25), row(1.0, 0.5, 0.0)
    (up,) = found(quality + row(0, 0.125, 0), cost, ChooseRule(cost_weight=0.625))
    (down,) = found(quality + row(0, 0.125, 0), cost, ChooseRule(cost_weight=0.375))
    assert (up.turn, up.expert) == (0.75, "c")
    assert (down.turn, down.expert) == (0.25, "a")


def test_of_those_that_overtake_at_one_weight_the_one_that_is_ahead_past_it_is_named() -> None:
    quality, cost = row(0.5, 0.75, 0.5, 0.25), row(0.5, 0.75, 0.5, 0.25)
    (up,) = found(quality, cost, ChooseRule(cost_weight=0.5))
    (down,) = found(quality, cost, ChooseRule(cost_weight=2))
    assert (up.turn, up.expert) == (1.0, "d")
    assert (down.turn, down.expert) == (1.0, "b")


def test_an_earlier_expert_as_good_and_dearer_is_first_where_cost_does_not_weigh() -> None:
    (flip,) = found(row(0.5, 0.5), row(0.5, 0.25), ChooseRule(cost_weight=1))
    assert (flip.turn, flip.expert) == (0.0, "a")
    assert flip.text == "'a' is first with a cost_weight of 0 instead of 1"


def test_where_cost_does_not_weigh_the_earliest_of_equals_is_first() -> None:
    (flip,) = found(row(0.5, 0.5, 0.5), row(0.5, 0.75, 0.25), ChooseRule(cost_weight=1))
    assert (flip.turn, flip.expert) == (0.0, "a")


def test_a_later_expert_as_good_and_dearer_is_never_first() -> None:
    assert found(row(0.5, 0.5), row(0.25, 0.5), ChooseRule(cost_weight=1)) == ()


@pytest.mark.parametrize(
    ("quality", "cost"),
    [
        (row(0.75, 0.5), row(0.25, 0.25)),
        (row(0.75, 0.5), row(0.25, 0.5)),
        (row(0.75, UNKNOWN), row(0.5, 0.25)),
        (row(0.75, 0.5), row(0.5, UNKNOWN)),
        (row(0.75, 0.5), row(UNKNOWN, 0.25)),
        (row(0.25, 0.5), row(float("inf"), 0.25)),
        (row(UNKNOWN, UNKNOWN), row(0.5, 0.25)),
        (row(0.75, 0.5), None),
    ],
)
def test_where_no_weight_of_cost_flips_the_choice_none_is_given(
    quality: Float32Array, cost: Float32Array | None
) -> None:
    assert found(quality, cost, ChooseRule()) == ()


def test_an_unavailable_expert_is_nobodys_alternative() -> None:
    quality, cost = row(0.75, 0.5, 0.25), row(0.5, 0.25, 0.25)
    (flip,) = found(quality, cost, ChooseRule(), unavailable={"b"})
    assert (flip.expert, flip.turn) == ("c", 2.0)


@dataclass(frozen=True)
class Sums:
    """Experts whose raw score is a sum of parts: amounts [m, parts], one scale, offsets [m]."""

    amounts: np.ndarray[Any, np.dtype[np.float64]]
    offsets: np.ndarray[Any, np.dtype[np.float64]]
    scale: float

    def quality(self, part: int = 0, factor: float = 1.0) -> Float32Array:
        """Where one part counts so much."""
        counts = np.ones(self.amounts.shape[1])
        counts[part] = factor
        logits = self.scale * (self.amounts * counts).sum(axis=1) + self.offsets
        return (1 / (1 + np.exp(-logits)))[None].astype(np.float32)

    def scores(self, **changed: Any) -> Scores:
        def why(_: int, column: int) -> Evidence:
            parts = {f"part {p}": float(x) for p, x in enumerate(self.amounts[column])}
            offset = float(self.offsets[column])
            account = {"parts": parts, "scale": self.scale, "offset": offset}
            return Evidence("a sum", account | changed)

        return Scores(tuple(NAMES[: len(self.offsets)]), self.quality(), why)


@st.composite
def sums(draw: st.DrawFn) -> Sums:
    m, p = draw(st.integers(2, 4)), draw(st.integers(1, 3))
    amounts = st.integers(-8, 8).map(lambda i: i / 8)
    cells = draw(st.lists(amounts, min_size=m * p, max_size=m * p))
    offsets = draw(st.lists(amounts, min_size=m, max_size=m))
    scale = draw(st.sampled_from([0.5, 1.0, 2.0]))
    return Sums(np.array(cells).reshape(m, p), np.array(offsets), scale)


@settings(deadline=None)
@given(sums(), st.sampled_from([0.0, 0.25]), st.data())
def test_the_choice_flips_just_past_the_factor_on_a_part_and_not_before(
    made: Sums, cost_weight: float, data: st.DataObject
) -> None:
    m = len(made.offsets)
    amounts = st.integers(0, 8).map(lambda i: i / 8)
    cost = row(*data.draw(st.lists(amounts, min_size=m, max_size=m)))
    rule = ChooseRule(cost_weight=cost_weight)
    quality = made.quality().astype(np.float64)
    utility = np.sort((quality - cost_weight * cost)[0])
    # float32 makes ties of what differs by less, and choose decides them by the column.
    assume(utility[-1] - utility[-2] > 1e-4)

    def first_at(part: int, factor: float) -> str:
        return first_choice(made.quality(part, factor), cost, rule)

    first = first_at(0, 1.0)
    flips = counterfactuals(made.scores(), 0, rule, cost_usd=cost)
    part_flips = [flip for flip in flips if flip.weight == "part"]
    # Past this float32 knows no difference between two experts that are almost certain.
    change = 2.0
    for flip in part_flips:
        assert flip.part is not None
        assert 0 <= flip.turn <= MOST_FACTOR
        change = flip.turn - 1
        if 1e-3 < flip.turn < 3:
            part = int(flip.part.removeprefix("part "))
            assert first_at(part, flip.turn + np.sign(change) * 1e-3) != first
    reach = min(abs(change), 2.0)
    for part in range(made.amounts.shape[1]):
        for factor in 1 + np.linspace(-0.99, 0.99, 7) * reach:
            if factor >= 0:
                assert first_at(part, float(factor)) == first


TWO_SKILLS = Sums(np.array([[1.0, 0.5], [0.5, 0.75]]), np.array([0.0, 0.0]), 2.0)
"""a is 0.5 ahead in the first part and 0.25 behind in the second."""


def part_flip(scores: Scores, rule: ChooseRule | None = None, **other: Any) -> Counterfactual:
    (flip,) = counterfactuals(scores, 0, rule or ChooseRule(), **other)
    return flip


def test_the_part_that_has_to_change_least_is_named() -> None:
    flip = part_flip(TWO_SKILLS.scores())
    assert (flip.weight, flip.part, flip.now, flip.expert) == ("part", "part 0", 1.0, "b")
    assert flip.turn == pytest.approx(0.5)
    assert flip.text == "'b' is first if 'part 0' counts less than 0.5 times as much"


def test_a_part_may_have_to_count_more() -> None:
    flip = part_flip(Sums(np.array([[0.5], [0.75]]), np.array([0.3, 0.0]), 1.0).scores())
    assert (flip.part, flip.expert) == ("part 0", "b")
    assert flip.turn == pytest.approx(1.2)
    assert flip.text == "'b' is first if 'part 0' counts more than 1.2 times as much"


def test_a_part_that_would_have_to_vanish_is_said_not_to_count() -> None:
    assert Counterfactual("part", "algebra", 1.0, "below", 0.0, "b").text == (
        "'b' is first if 'algebra' does not count"
    )


def test_an_expert_that_costs_more_is_overtaken_sooner() -> None:
    cost = row(0.125, 0.0)
    free = part_flip(TWO_SKILLS.scores(), cost_usd=None)
    weighed = ChooseRule(cost_weight=0.5)
    _, dear = counterfactuals(TWO_SKILLS.scores(), 0, weighed, cost_usd=cost)
    assert (free.weight, dear.weight) == ("part", "part")
    assert free.turn < dear.turn < 1


def test_a_part_of_which_another_expert_has_none_counts_as_zero_there() -> None:
    def why(_: int, column: int) -> Evidence:
        parts = {"maths": 1.0} if column == 0 else {"prose": 0.5}
        return Evidence("a sum", {"parts": parts, "scale": 1.0, "offset": 0.0})

    quality = row(*(1 / (1 + np.exp(-np.array([1.0, 0.5])))))
    flip = part_flip(Scores(("a", "b"), quality, why))
    assert (flip.part, flip.expert) == ("maths", "b")
    assert flip.turn == pytest.approx(0.5)


@pytest.mark.parametrize(
    "changed",
    [{"parts": {}}, {"scale": 1.0}, {"offset": 1.0}],
    ids=["no parts", "another scale", "another offset"],
)
def test_evidence_that_does_not_add_up_to_the_quality_is_not_used(changed: dict[str, Any]) -> None:
    assert counterfactuals(TWO_SKILLS.scores(**changed), 0, ChooseRule()) == ()


def test_evidence_without_scale_or_offset_is_not_used() -> None:
    def why(_: int, column: int) -> Evidence:
        return Evidence("a sum", {"parts": {"maths": 0.5 - column / 4}})

    scores = Scores(("a", "b"), TWO_SKILLS.quality(), why)
    assert counterfactuals(scores, 0, ChooseRule()) == ()


def test_an_expert_without_an_account_is_left_out() -> None:
    three = Sums(np.array([[1.0, 0.5], [0.6, 0.5], [0.5, 0.75]]), np.array([0.0, 0.7, 0.0]), 2.0)
    told = three.scores()
    partial = Scores(
        told.experts, told.quality, lambda r, c: Evidence("?") if c == 1 else told.why(r, c)
    )
    assert part_flip(told).expert == "b"
    assert part_flip(partial).expert == "c"


def test_without_an_account_of_the_first_choice_no_part_is_weighed() -> None:
    told = Sums(np.array([[1.0], [0.6], [0.5]]), np.array([0.0, 0.0, 0.08]), 2.0).scores()
    partial = Scores(
        told.experts, told.quality, lambda r, c: Evidence("?") if c == 0 else told.why(r, c)
    )
    assert counterfactuals(partial, 0, ChooseRule()) == ()
