from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from composer.allocate import Allocation, AllocationMethod, Budget, BudgetKind, allocate
from composer.choose import choose
from composer.errors import ConfigError, RoutingError
from composer.experts import ChooseRule
from composer.types import Evidence, Scores

if TYPE_CHECKING:
    from composer.types import Float32Array

UNKNOWN = float("nan")
STEP = 16
"""All numbers are multiples of 1 / STEP, so that sums of them are exact."""
METHODS: list[AllocationMethod] = ["lagrangian", "exact"]


def scores(*rows: tuple[float, ...]) -> Scores:
    """Of experts a, b, c, ..."""
    quality = np.array(rows, dtype=np.float32)
    names = tuple("abcd"[: quality.shape[1]])
    return Scores(names, quality, lambda row, column: Evidence(f"cell {row},{column}"))


def ids(made: Scores) -> list[str]:
    return [f"q{row}" for row in range(len(made.quality))]


def allocated(
    made: Scores, amount: float, cost: Any, kind: BudgetKind = "usd", **options: Any
) -> Allocation:
    costs = np.array(cost, np.float32)
    return allocate(made, ids(made), Budget(kind, amount), router="told", cost=costs, **options)


def chosen(allocation: Allocation) -> str:
    """A letter a query; a dash: nobody."""
    return "".join(
        selection.choices[0].expert if selection.choices else "-"
        for selection in allocation.selections
    )


@dataclass(frozen=True)
class Batch:
    """A batch small enough to try every assignment."""

    scores: Scores
    cost: Float32Array
    amount: float

    def assignments(self) -> list[tuple[float, float]]:
        """Quality and cost of every assignment of known experts."""
        n, m = self.cost.shape
        cells = [
            [
                (float(self.scores.quality[row, c]), float(self.cost[row, c]))
                for c in range(m)
                if not np.isnan(self.scores.quality[row, c])
            ]
            for row in range(n)
        ]
        return [(sum(q for q, _ in each), sum(c for _, c in each)) for each in product(*cells)]

    @property
    def best(self) -> float:
        return max(q for q, c in self.assignments() if c <= self.amount)

    @property
    def least(self) -> float:
        return min(c for _, c in self.assignments())

    def allocate(self, method: AllocationMethod) -> Allocation:
        return allocated(self.scores, self.amount, self.cost, method=method)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Something is known in every row; the budget may be met or not."""
    n, m = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    amounts = st.integers(0, STEP).map(lambda i: i / STEP)
    quality = draw(st.lists(amounts | st.just(UNKNOWN), min_size=n * m, max_size=n * m))
    for row, known in enumerate(draw(st.lists(st.integers(0, m - 1), min_size=n, max_size=n))):
        quality[row * m + known] = draw(amounts)
    cost = draw(st.lists(amounts, min_size=n * m, max_size=n * m))
    made = scores(*(tuple(quality[row * m : row * m + m]) for row in range(n)))
    amount = draw(st.integers(0, n * STEP)) / STEP
    return Batch(made, np.array(cost, np.float32).reshape(n, m), amount)


@settings(deadline=None, max_examples=60)
@given(batches())
def test_an_allocation_keeps_within_the_budget_and_its_bound_holds(batch: Batch) -> None:
    assume(batch.least <= batch.amount)
    found = batch.allocate("lagrangian")
    columns = [batch.scores.experts.index(expert) for expert in chosen(found)]
    rows = range(len(columns))
    assert found.spent == batch.cost[rows, columns].sum() <= batch.amount
    assert found.quality == batch.scores.quality[rows, columns].sum()
    assert found.quality <= batch.best <= found.bound + 1e-9
    assert 0 <= found.gap == found.bound - found.quality
    assert found.multiplier >= 0


@settings(deadline=None, max_examples=40)
@given(batches())
def test_the_exact_allocation_is_the_best_of_all_assignments(batch: Batch) -> None:
    assume(batch.least <= batch.amount)
    found = batch.allocate("exact")
    assert found.spent <= batch.amount
    assert found.quality == pytest.approx(batch.best, abs=1e-5)
    assert found.gap == pytest.approx(0, abs=1e-5)
    assert batch.allocate("lagrangian").quality <= found.quality + 1e-5


@settings(deadline=None, max_examples=60)
@given(batches(), st.sampled_from(METHODS))
def test_a_budget_that_is_not_used_up_changes_nothing(
    batch: Batch, method: AllocationMethod
) -> None:
    rich = Batch(batch.scores, batch.cost, float(batch.cost.max(axis=1).sum()))
    found = rich.allocate(method)
    free = choose(rich.scores, ids(rich.scores), ChooseRule(), router="told")
    assert [s.choices[0].quality for s in found.selections] == [s.choices[0].quality for s in free]
    assert (found.multiplier, found.gap) == (0, 0)


@settings(deadline=None, max_examples=60)
@given(batches())
def test_a_greater_budget_is_never_bounded_lower(batch: Batch) -> None:
    assume(batch.least <= batch.amount)
    richer = Batch(batch.scores, batch.cost, batch.amount + 0.5)
    assert richer.allocate("lagrangian").bound >= batch.allocate("lagrangian").bound - 1e-9


@settings(deadline=None, max_examples=60)
@given(batches(), st.integers(0, STEP - 1))
def test_a_budget_that_nobody_keeps_within_is_refused_with_the_least_that_will_do(
    batch: Batch, share: int
) -> None:
    assume(batch.least > 0)
    poor = Batch(batch.scores, batch.cost, batch.least * share / STEP)
    with pytest.raises(ConfigError, match="no assignment keeps within") as caught:
        poor.allocate("lagrangian")
    least = float(str(caught.value).rpartition(" ")[2])
    assert least == pytest.approx(batch.least, rel=1e-5)
    assert Batch(batch.scores, batch.cost, least).allocate("lagrangian").selections


def test_the_least_budget_is_rounded_up() -> None:
    with pytest.raises(ConfigError, match=r"within 0 USD in all; give at least 0\.333334$"):
        allocated(scores((0.5,)), 0, [[1 / 3]])


def test_the_dear_expert_goes_where_it_gains_most() -> None:
    made = scores((0.5, 0.625), (0.5, 1.0), (0.5, 0.75))
    found = allocated(made, 2.5, [[0.5, 1.0]] * 3)
    assert (chosen(found), found.spent, found.quality) == ("abb", 2.5, 2.25)


def test_what_is_left_is_spent_where_it_adds_most() -> None:
    made = scores((0.0, 1.0), (0.0, 0.1), (0.0, 0.08), (0.0, 0.08))
    found = allocated(made, 2, [[0.0, 10.0], [0.0, 2.0], [0.0, 1.0], [0.0, 1.0]])
    assert (chosen(found), found.spent) == ("aabb", 2)
    assert found.multiplier == pytest.approx(0.1)
    assert found.bound == pytest.approx(0.2)


@pytest.mark.parametrize("method", METHODS)
def test_of_equally_good_experts_the_cheapest_is_taken(method: AllocationMethod) -> None:
    found = allocated(scores((0.5, 0.5, 0.5)), 9, [[2.0, 1.0, 1.0]], method=method)
    assert chosen(found) == "b"


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_spent_where_nothing_may_be(method: AllocationMethod) -> None:
    made = scores((0.25, 0.5), (0.25, 0.5))
    found = allocated(made, 0, [[0.0, 1.0], [0.0, 0.0]], method=method)
    assert (chosen(found), found.spent) == ("ab", 0)


def test_a_hair_over_the_budget_is_over_it() -> None:
    cost = np.array([[1.0, 1.0 + 1e-7]])
    for method in METHODS:
        budget = Budget("usd", 1.0)
        found = allocate(
            scores((0.25, 0.5)), ["q"], budget, router="told", cost=cost, method=method
        )
        assert chosen(found) == "a"


def test_the_exact_allocation_does_not_depend_on_the_unit_of_cost() -> None:
    made = scores((0.25, 0.5, 1.0), (0.25, 0.75, 0.875), (0.25, 0.5, 0.625))
    cost = np.array([[1.0, 2.0, 4.0]] * 3)
    in_usd = Budget("usd", 7.0)
    in_tiny = Budget("usd", 7e-8)
    one = allocate(made, ids(made), in_usd, router="told", cost=cost, method="exact")
    other = allocate(made, ids(made), in_tiny, router="told", cost=cost * 1e-8, method="exact")
    assert chosen(one) == chosen(other) == "cba"


def test_the_exact_allocation_has_no_gap() -> None:
    rng = np.random.default_rng(1)
    quality = rng.random((80, 4)).astype(np.float32)
    made = Scores(tuple("abcd"), quality, lambda row, column: Evidence("as told"))
    cost = rng.lognormal(0, 1, (80, 4)).astype(np.float32)
    near, exact = (allocated(made, 50, cost, method=method) for method in METHODS)
    assert exact.gap < 1e-6 < near.gap
    assert near.quality <= exact.quality <= near.bound


def test_experts_that_tie_at_the_multiplier_are_the_best_there() -> None:
    cost = np.array([[0.1, 0.4], [0.1, 0.4], [0.3, 0.7]])
    made = scores((0.1, 0.3), (0.1, 0.3), (0.2, 0.3))
    found = allocate(made, ids(made), Budget("usd", 0.8), router="told", cost=cost)
    assert sorted(chosen(found)) == ["a", "a", "b"]
    assert all(s.reason.startswith("best by told at") for s in found.selections)


def test_the_same_choices_are_made_online_at_the_multiplier() -> None:
    rng = np.random.default_rng(0)
    made = Scores(tuple("abcd"), rng.random((50, 4)).astype(np.float32), lambda r, c: Evidence("?"))
    cost = rng.random((50, 4)).astype(np.float32)
    found = allocated(made, 15, cost)
    online = choose(
        made, ids(made), ChooseRule(cost_weight=found.multiplier), router="told", cost_usd=cost
    )
    n_other = sum(
        here.choices[0].expert != there.choices[0].expert
        for here, there in zip(found.selections, online, strict=True)
    )
    assert n_other <= 2
    assert found.multiplier > 0
    best = found.selections[0]
    assert best.reason == (
        f"best by told at {found.multiplier:.4g} quality per USD (the cost_weight), "
        "within 15 USD in all"
    )
    assert best.choices[0].utility == pytest.approx(online[0].choices[0].utility)
    assert best.ranking == online[0].ranking
    assert best.margin == pytest.approx(online[0].margin)


def test_who_is_chosen_against_the_multiplier_fills_the_budget() -> None:
    found = allocated(scores((0.0, 1.0), (0.0, 0.25)), 1.5, [[0.0, 2.0], [0.0, 1.0]])
    assert chosen(found) == "ab"
    fills = [s for s in found.selections if s.reason.startswith("fills the budget better than")]
    assert [s.query_id for s in fills] == ["q1"]
    assert fills[0].margin is not None
    assert fills[0].margin < 0


def test_active_parameters_are_an_average_over_the_queries_that_are_answered() -> None:
    made = scores((0.25, 0.5), (0.25, 1.0), (UNKNOWN, UNKNOWN))
    found = allocated(made, 4.0, [1.0, 7.0], kind="active_params_b")
    assert (chosen(found), found.spent) == ("ab-", 4.0)
    with pytest.raises(
        ConfigError, match=r"within 0\.5 billion active parameters a query; give at least 1$"
    ):
        allocated(made, 0.5, [1.0, 7.0], kind="active_params_b")


def test_tokens_are_a_total() -> None:
    made = scores((0.25, 0.5), (0.25, 1.0))
    found = allocated(made, 500, [[100, 400]] * 2, kind="tokens")
    assert (chosen(found), found.spent) == ("ab", 500)
    assert "quality per token, within 500 tokens in all" in found.selections[0].reason


def test_a_cost_for_each_expert_holds_for_all_queries() -> None:
    made = scores((0.25, 0.5), (0.25, 1.0))
    assert chosen(allocated(made, 5, [1.0, 4.0])) == chosen(allocated(made, 5, [[1.0, 4.0]] * 2))


@pytest.mark.parametrize("method", METHODS)
def test_an_unknown_expert_is_not_chosen_however_cheap(method: AllocationMethod) -> None:
    found = allocated(scores((UNKNOWN, 0.25, 0.5)), 1, [[0.0, 1.0, 2.0]], method=method)
    assert chosen(found) == "b"
    assert found.selections[0].ranking == ("b", "c", "a")


def test_an_unavailable_expert_is_neither_chosen_nor_ranked() -> None:
    made = scores((0.25, 0.5), (0.25, 1.0))
    found = allocated(made, 9, [[1.0, 2.0]] * 2, unavailable={"b"})
    assert (chosen(found), found.spent) == ("aa", 2)
    assert found.selections[0].ranking == ("a",)


def test_nobody_available_is_an_error() -> None:
    with pytest.raises(RoutingError, match=r"none of the experts \['a'\] is available now"):
        allocated(scores((0.5,)), 9, [[1.0]], unavailable={"a"})


def test_what_nothing_is_known_of_goes_to_the_fallback_at_its_cost() -> None:
    made = scores((UNKNOWN, UNKNOWN), (0.25, 0.5))
    found = allocated(made, 3.5, [[3.0, 1.0], [0.5, 1.0]], fallback="a")
    assert (chosen(found), found.spent, found.quality) == ("aa", 3.5, 0.25)
    assert found.selections[0].reason == "fallback 'a': nothing is known of any expert here"
    assert (found.selections[0].choices[0].quality, found.selections[0].margin) == (None, None)


@pytest.mark.parametrize("fallback", [None, "b", "zoe"])
def test_what_nothing_is_known_of_is_refused_at_no_cost_without_one(fallback: str | None) -> None:
    made = scores((UNKNOWN, UNKNOWN), (0.25, 0.5))
    found = allocated(made, 1, [[3.0, 3.0], [1.0, 2.0]], fallback=fallback, unavailable={"b"})
    assert (chosen(found), found.spent) == ("-a", 1)
    refused = found.selections[0]
    assert refused.ranking == ()
    assert "knows nothing of any available expert" in refused.reason


def test_a_batch_that_is_refused_as_a_whole_costs_nothing() -> None:
    for kind in ("usd", "active_params_b"):
        found = allocated(scores((UNKNOWN, UNKNOWN)), 0, [[1.0, 2.0]], kind=kind)
        assert (chosen(found), found.spent, found.quality, found.gap) == ("-", 0, 0, 0)


@pytest.mark.parametrize(
    ("wrong", "shown"), [(UNKNOWN, "nan"), (float("inf"), "inf"), (-1.0, "-1")]
)
def test_a_cost_that_is_none_is_refused_where_it_counts(wrong: float, shown: str) -> None:
    made = scores((0.25, UNKNOWN), (0.25, 0.5))
    assert chosen(allocated(made, 9, [[1.0, wrong], [1.0, 2.0]])) == "ab"
    with pytest.raises(
        ConfigError, match=rf"cost of 'b' for query 'q1' is {shown} \(1 such\); give a number"
    ):
        allocated(made, 9, [[1.0, 1.0], [1.0, wrong]])


def test_a_fallback_of_unknown_cost_is_refused_where_it_is_needed() -> None:
    with pytest.raises(ConfigError, match="cost of 'a' for query 'q0' is nan"):
        allocated(scores((UNKNOWN, UNKNOWN)), 9, [[UNKNOWN, 1.0]], fallback="a")


@pytest.mark.parametrize("amount", [-1.0, UNKNOWN, float("inf")])
def test_an_amount_that_is_none_is_refused(amount: float) -> None:
    with pytest.raises(ConfigError, match=r"the budget's amount is .*; give a number from 0"):
        Budget("usd", amount)


def test_an_unknown_kind_of_budget_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no kind of budget 'usb'; did you mean 'usd'\?"):
        Budget("usb", 1)  # pyright: ignore[reportArgumentType]


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no method of allocation 'exat'; did you mean 'exact'"):
        allocated(scores((0.5,)), 1, [[1.0]], method="exat")


def test_a_large_batch_ends_near_its_bound() -> None:
    rng = np.random.default_rng(0)
    quality = rng.random((2000, 8)).astype(np.float32)
    made = Scores(tuple("abcdefgh"), quality, lambda row, column: Evidence("as told"))
    cost = rng.lognormal(0, 1, (2000, 8))
    found = allocate(made, ids(made), Budget("usd", 900), router="told", cost=cost)
    assert found.spent <= 900
    assert found.gap < 1e-4 * found.quality
