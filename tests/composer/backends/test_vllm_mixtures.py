"""Rows of a batch that are mixed in lock-step, on logits made by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.backends.vllm_groups import log_weights
from composer.backends.vllm_mixtures import Added, Mixtures, Moved, forced_arguments, row_arguments
from composer.types import Request

torch: Any = pytest.importorskip("torch")

# Three tokens; the rows are probabilities.
ANN, BEN = (0.7, 0.2, 0.1), (0.1, 0.3, 0.6)


def at_first(size: int, weights: tuple[float, ...] = ()) -> tuple[float, ...]:
    """What so many experts of a request count."""
    experts = tuple(f"e{number}" for number in range(size))
    return log_weights(Request("q1", experts[0], (), peers=experts[1:], weights=weights))


class Batch:
    """A group of experts in a batch, as vLLM would show it."""

    def __init__(
        self, size: int, places: tuple[int, ...] | None = None, weights: tuple[float, ...] = ()
    ) -> None:
        self.mixtures = Mixtures()
        self.name = self.mixtures.start("q1", at_first(size, weights))
        self.tokens: list[list[int]] = [[] for _ in range(size)]
        self.places = list(range(size)) if places is None else list(places)
        added = [
            Added(place, row_arguments(self.name, j), self.tokens[j])
            for j, place in enumerate(self.places)
        ]
        self.mixtures.update([], added, [])

    def draw(self, token: int) -> None:
        for tokens in self.tokens:
            tokens.append(token)

    def step(self, *probabilities: tuple[float, ...]) -> list[list[float]]:
        """The probabilities of all rows after one forward pass gave these."""
        logits = torch.tensor(probabilities).log() + 3.0
        after: Any = self.mixtures.apply(logits)
        return after.exp().tolist()


def test_all_rows_of_a_group_get_the_mean_distribution_first() -> None:
    rows = Batch(2).step(ANN, BEN)

    assert rows[0] == pytest.approx([0.4, 0.25, 0.35])
    assert rows[1] == rows[0]


def test_experts_weigh_by_the_likelihood_of_all_tokens_drawn_so_far() -> None:
    batch = Batch(2)

    batch.step(ANN, BEN)
    batch.draw(2)
    second = batch.step(ANN, BEN)
    batch.draw(1)
    third = batch.step(ANN, BEN)

    w = 0.1 / 0.7
    assert second[0] == pytest.approx([w * a + (1 - w) * b for a, b in zip(ANN, BEN, strict=True)])
    w = 0.1 * 0.2 / (0.1 * 0.2 + 0.6 * 0.3)
    assert third[1] == pytest.approx([w * a + (1 - w) * b for a, b in zip(ANN, BEN, strict=True)])


def test_a_group_begins_with_the_weights_that_it_is_given() -> None:
    batch = Batch(2, weights=(9.0, 1.0))

    first = batch.step(ANN, BEN)
    batch.draw(2)
    second = batch.step(ANN, BEN)

    assert first[0] == pytest.approx([0.9 * a + 0.1 * b for a, b in zip(ANN, BEN, strict=True)])
    w = 0.9 * 0.1 / (0.9 * 0.1 + 0.1 * 0.6)
    assert second[1] == pytest.approx([w * a + (1 - w) * b for a, b in zip(ANN, BEN, strict=True)])


def test_an_expert_of_no_weight_never_counts() -> None:
    batch = Batch(3, weights=(0.0, 1.0, 1.0))

    batch.step(ANN, BEN, BEN)
    batch.draw(0)

    assert batch.step(ANN, BEN, BEN)[0] == pytest.approx(list(BEN))


def test_an_expert_mixed_with_itself_is_unchanged() -> None:
    batch = Batch(2)

    first = batch.step(ANN, ANN)
    batch.draw(0)
    second = batch.step(BEN, BEN)

    assert first[0] == pytest.approx(list(ANN))
    assert second[0] == pytest.approx(list(BEN))


def test_an_expert_that_has_all_the_weight_is_all_there_is() -> None:
    batch = Batch(2)

    batch.step((1.0, 0.0, 0.0), (0.0, 0.5, 0.5))
    batch.draw(0)

    assert batch.step(ANN, BEN)[1] == pytest.approx(list(ANN))


def test_rows_of_other_requests_stay_as_they_are() -> None:
    batch = Batch(2, places=(2, 0))
    batch.mixtures.update([], [Added(1, None, []), Added(3, {"other": 1}, [])], [])
    logits = torch.tensor([BEN, (0.2, 0.3, 0.5), ANN, (0.5, 0.3, 0.2)]).log()

    after: Any = batch.mixtures.apply(logits.clone())

    assert after[1].tolist() == logits[1].tolist()
    assert after[3].tolist() == logits[3].tolist()
    assert after[0].exp().tolist() == pytest.approx([0.4, 0.25, 0.35])


def test_a_forced_row_says_the_tokens_that_it_is_given() -> None:
    mixtures = Mixtures()
    said: list[list[int]] = []
    tokens: list[int] = []
    after: Any = None
    mixtures.update([], [Added(1, forced_arguments([2, 0]), tokens)], [])

    for _ in range(3):
        after = mixtures.apply(torch.tensor([BEN, ANN]).log())
        said.append(after.argmax(-1).tolist())
        tokens.append(said[-1][1])

    assert said == [[2, 2], [2, 0], [2, 0]]
    assert after[0].exp().tolist() == pytest.approx(list(BEN))


def test_two_groups_do_not_touch_each_other() -> None:
    batch = Batch(2)
    other = batch.mixtures.start("q2", at_first(2))
    rows = [Added(2 + j, row_arguments(other, j), []) for j in range(2)]
    batch.mixtures.update([], rows, [])

    after = batch.step(ANN, BEN, BEN, BEN)

    assert after[0] == pytest.approx([0.4, 0.25, 0.35])
    assert after[3] == pytest.approx(list(BEN))


def test_a_row_is_followed_where_the_batch_moves_it() -> None:
    batch = Batch(2, places=(0, 3))
    batch.mixtures.update([], [Added(1, None, [])], [])

    batch.mixtures.update([1], [], [Moved(3, 1, False)])
    batch.step(ANN, BEN)
    batch.draw(2)
    batch.mixtures.update([], [], [Moved(0, 1, True)])
    after = batch.step(BEN, ANN)

    w = 0.1 / 0.7
    assert after[0] == pytest.approx([w * a + (1 - w) * b for a, b in zip(ANN, BEN, strict=True)])
    assert batch.mixtures.take_broken() == []


def test_a_new_request_takes_the_place_of_a_row() -> None:
    batch = Batch(1)

    batch.mixtures.update([], [Added(0, None, [])], [])
    batch.step(ANN)

    assert batch.mixtures.take_broken() == []


def test_a_row_that_another_is_moved_onto_is_gone() -> None:
    batch = Batch(1)
    batch.mixtures.update([], [Added(1, None, [])], [])

    batch.mixtures.update([], [Added(2, row_arguments("other", 0), [])], [Moved(2, 0, False)])
    after = batch.step(ANN, ANN, BEN)

    assert after[2] == pytest.approx([p * math.exp(3) for p in BEN])


def test_a_group_without_one_of_its_rows_is_broken_and_not_mixed() -> None:
    batch = Batch(3)
    batch.mixtures.update([1], [], [Moved(2, 1, False)])

    after = batch.step(ANN, BEN)

    assert after[0] == pytest.approx([p * math.exp(3) for p in ANN])
    assert batch.mixtures.take_broken() == [batch.name]
    assert batch.mixtures.take_broken() == []


def test_rows_that_drew_different_tokens_are_broken() -> None:
    batch = Batch(2)
    batch.step(ANN, BEN)

    batch.tokens[0].append(0)
    batch.tokens[1].append(1)
    batch.step(ANN, BEN)

    assert batch.mixtures.take_broken() == [batch.name]


def test_rows_that_were_mixed_and_drew_nothing_are_broken() -> None:
    batch = Batch(2)

    batch.step(ANN, BEN)
    batch.step(ANN, BEN)

    assert batch.mixtures.take_broken() == [batch.name]


def test_rows_of_a_group_that_has_ended_are_let_be() -> None:
    batch = Batch(2)

    batch.mixtures.end(batch.name)

    assert batch.step(ANN, BEN)[0] != pytest.approx([0.4, 0.25, 0.35])
    assert batch.mixtures.take_broken() == []


def test_a_group_that_comes_again_has_another_name() -> None:
    mixtures = Mixtures()

    assert mixtures.start("q1", at_first(2)) != mixtures.start("q1", at_first(2))


@given(
    st.lists(st.lists(st.floats(-30, 30), min_size=4, max_size=4), min_size=2, max_size=4),
    st.lists(st.floats(1e-9, 1e9), min_size=4, max_size=4),
    st.lists(st.integers(0, 3), max_size=3),
)
def test_what_comes_out_is_a_distribution_between_the_experts(
    logits: list[list[float]], weights: list[float], drawn: list[int]
) -> None:
    batch = Batch(len(logits), weights=tuple(weights[: len(logits)]))
    tensor = torch.tensor(logits)
    experts = tensor.softmax(-1)
    for token in drawn:
        batch.mixtures.apply(tensor.clone())
        batch.draw(token)

    after: Any = batch.mixtures.apply(tensor.clone())
    mixed = after.exp()

    assert mixed.sum(-1).tolist() == pytest.approx([1.0] * len(logits), abs=1e-5)
    assert bool((mixed >= experts.min(0).values - 1e-6).all())
    assert bool((mixed <= experts.max(0).values + 1e-6).all())
