"""Whether asking for comparisons sorts, how often it asks, and what it asks together."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.aggregators.judge.tournament import Pair, comparisons, merge_sort, most_comparisons

permutations = st.integers(0, 20).flatmap(lambda n: st.permutations(range(n)))


def run(n_items: int, second_wins: Callable[[Pair], bool]) -> tuple[list[int], list[list[Pair]]]:
    """The order, and the pairs of each round."""
    sorting = merge_sort(n_items)
    rounds: list[list[Pair]] = []
    try:
        pairs = next(sorting)
        while True:
            rounds.append(pairs)
            pairs = sorting.send([second_wins(pair) for pair in pairs])
    except StopIteration as stop:
        return stop.value, rounds


@given(permutations)
def test_a_consistent_judge_gives_its_own_order(strength: list[int]) -> None:
    order, _ = run(len(strength), lambda pair: strength[pair[1]] > strength[pair[0]])

    assert [strength[item] for item in order] == sorted(strength, reverse=True)


@given(st.lists(st.integers(0, 3), max_size=20))
def test_ties_keep_the_order_of_the_items(strength: list[int]) -> None:
    order, _ = run(len(strength), lambda pair: strength[pair[1]] > strength[pair[0]])

    assert order == sorted(range(len(strength)), key=lambda item: -strength[item])


@given(st.integers(0, 20), st.integers(0, 2**32))
def test_any_judge_gives_every_item_once_and_never_compares_a_pair_twice(n: int, seed: int) -> None:
    rng = random.Random(seed)

    order, rounds = run(n, lambda pair: rng.random() < 0.5)

    pairs = [pair for pairs in rounds for pair in pairs]
    assert sorted(order) == list(range(n))
    assert len(pairs) == len(set(pairs))
    assert all(first < second for first, second in pairs)


@given(st.integers(0, 20), st.integers(0, 2**32))
def test_the_order_alone_says_how_many_comparisons_were_made(n: int, seed: int) -> None:
    rng = random.Random(seed)

    order, rounds = run(n, lambda pair: rng.random() < 0.5)

    made = sum(map(len, rounds))
    assert made == comparisons(order)
    assert made <= most_comparisons(n)


@pytest.mark.parametrize(
    ("n", "most"), [(0, 0), (1, 0), (2, 1), (3, 3), (4, 5), (5, 8), (6, 11), (7, 14), (8, 17)]
)
def test_the_worst_case_is_the_known_one_and_is_met(n: int, most: int) -> None:
    rng = random.Random(n)

    made = [sum(map(len, run(n, lambda pair: rng.random() < 0.5)[1])) for _ in range(500)]

    assert most_comparisons(n) == most
    assert max(made) == most


@given(st.integers(2, 20), st.integers(0, 2**32))
def test_a_round_holds_every_comparison_that_can_be_made_by_then(n: int, seed: int) -> None:
    rng = random.Random(seed)

    _, rounds = run(n, lambda pair: rng.random() < 0.5)

    for pairs in rounds:
        items = [item for pair in pairs for item in pair]
        assert len(items) == len(set(items))
    assert len(rounds) <= 2 * n
    assert len(rounds[0]) == max(1, n - 2 ** ((n - 1).bit_length() - 1))


def test_eight_items_begin_with_four_comparisons_at_once() -> None:
    _, rounds = run(8, lambda pair: False)

    assert rounds[0] == [(0, 1), (2, 3), (4, 5), (6, 7)]
    assert [len(pairs) for pairs in rounds] == [4, 2, 2, 1, 1, 1, 1]


def test_already_sorted_items_cost_half_the_comparisons_of_a_level() -> None:
    order, rounds = run(8, lambda pair: False)

    assert order == list(range(8))
    assert sum(map(len, rounds)) == comparisons(order) == 12
