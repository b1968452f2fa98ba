# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from composer.errors import ConfigError
from composer.latent.routing import ThoughtRouter, choose, gumbel
from composer.latent.routing_losses import (
    Baseline,
    RoutingWeights,
    balance_loss,
    choice_loss,
    consistency_loss,
    entropy_loss,
    routing_loss,
)

ONLY_CHOICE = RoutingWeights(entropy=0, balance=0, consistency=0, choice=1)


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def logits(seed: int = 0, n: int = 8, m: int = 4) -> Tensor:
    return torch.randn(n, m, generator=drawn(seed))


@given(st.integers(0, 99), st.integers(2, 9))
def test_the_entropy_term_is_none_of_even_shares_and_one_at_most(seed: int, m: int):
    assert entropy_loss(torch.full((3, m), 7.0)).item() == pytest.approx(0, abs=1e-6)
    assert 0 < entropy_loss(logits(seed, m=m)).item() < 1
    assert entropy_loss(1e4 * torch.eye(m)).item() == pytest.approx(1)


def test_the_entropy_term_pulls_shares_together():
    scores = torch.tensor([[2.0, 0.0, 0.0]], requires_grad=True)

    entropy_loss(scores).backward()

    assert scores.grad is not None
    assert scores.grad[0, 0] > 0 > scores.grad[0, 1]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40))
def test_balance_is_least_where_all_experts_get_equal_shares(chosen: list[int]):
    shares = torch.nn.functional.one_hot(torch.tensor(chosen), 5).float()
    loads = shares.sum(dim=0)

    found = balance_loss(shares).item()

    assert found >= 0
    assert (found < 1e-9) == bool((loads == loads[0]).all())
    assert balance_loss(torch.full((7, 5), 0.2)).item() == pytest.approx(0, abs=1e-9)


def test_balance_is_worst_where_one_expert_gets_all():
    everything = torch.nn.functional.one_hot(torch.zeros(6, dtype=torch.int64), 5).float()

    assert balance_loss(everything).item() == pytest.approx(4)


def test_balance_takes_from_the_expert_that_truly_gets_most():
    scores = torch.tensor([[0.2, 0.0, 0.1]] * 3, requires_grad=True)

    balance_loss(choose(scores, 1).writing).backward()

    assert scores.grad is not None
    assert (scores.grad[:, 0] > 0).all()
    assert (scores.grad[:, 1] < 0).all()


@given(st.integers(0, 99), st.floats(-5, 5))
def test_consistency_is_none_of_equal_routings_and_the_same_either_way(seed: int, up: float):
    one, other = logits(seed), logits(seed + 100)

    assert consistency_loss(one, one).item() == 0
    assert consistency_loss(one, one + up).item() == pytest.approx(0, abs=1e-5)
    assert consistency_loss(one, other).item() > 0
    assert consistency_loss(one, other).item() == pytest.approx(consistency_loss(other, one).item())


def test_consistency_brings_two_routings_together():
    one = torch.tensor([[1.0, 0.0]], requires_grad=True)

    consistency_loss(one, torch.tensor([[0.0, 1.0]])).backward()

    assert one.grad is not None
    assert one.grad[0, 0] > 0 > one.grad[0, 1]


def test_an_expert_that_loses_less_than_the_baseline_is_made_likelier():
    scores = torch.tensor([[1.0, 0.0], [1.0, 0.0]], requires_grad=True)
    routing = choose(scores, 1)

    term = choice_loss(routing, torch.tensor([0.5, 2.5]), baseline=1.0)
    term.backward()

    assert term.item() == pytest.approx(0.5)
    assert scores.grad is not None
    assert scores.grad[0, 0] < 0 < scores.grad[1, 0]


@given(st.floats(-5, 5), st.integers(0, 20))
def test_the_mean_gradient_of_the_choice_is_that_of_the_expected_loss(baseline: float, seed: int):
    losses = torch.rand(3, generator=drawn(seed))
    scores = logits(seed, 1, 3)
    expected = scores.clone().requires_grad_()
    (expected.softmax(dim=1)[0] @ losses).backward()
    shares = scores.softmax(dim=1)[0]

    found = torch.zeros(1, 3)
    for primary in range(3):
        here = scores.clone().requires_grad_()
        noise = torch.zeros(1, 3)
        noise[0, primary] = 100
        choice_loss(choose(here, 1, noise=noise), losses[[primary]], baseline).backward()
        assert here.grad is not None
        found += shares[primary] * here.grad

    assert expected.grad is not None
    assert torch.allclose(found, expected.grad, atol=1e-4)


def test_no_gradient_of_the_choice_goes_to_the_experts_loss():
    losses = torch.ones(8, requires_grad=True)
    scores = logits().requires_grad_()

    choice_loss(choose(scores, 2), losses, 0.0).backward()

    assert losses.grad is None


def test_the_baseline_begins_at_the_first_batch_and_follows_slowly():
    first = Baseline(decay=0.9).after(torch.tensor([1.0, 3.0]))

    assert first.mean == pytest.approx(2)
    assert first.after(torch.tensor([12.0])).mean == pytest.approx(3)


def test_the_total_is_the_weighted_sum_of_the_terms_that_are_reported():
    scores = logits()
    first, again = (choose(scores, 2, noise=gumbel(scores, drawn(seed))) for seed in (1, 2))
    weights = RoutingWeights(entropy=0.5, balance=0.25, consistency=2, choice=3)

    total, terms = routing_loss(first, again, weights, losses=torch.rand(8), baseline=0.4)

    assert terms.keys() == {"entropy", "balance", "consistency", "choice"}
    assert total.item() == pytest.approx(
        sum(getattr(weights, name) * value for name, value in terms.items()), rel=1e-5
    )


def test_without_losses_there_is_no_choice_term():
    routing = choose(logits(), 2)

    _, terms = routing_loss(routing, routing, RoutingWeights())

    assert "choice" not in terms


def test_a_term_of_weight_none_gives_no_gradient():
    scores = logits().requires_grad_()
    first, again = (choose(scores, 2, noise=gumbel(scores, drawn(seed))) for seed in (1, 2))

    total, _ = routing_loss(first, again, RoutingWeights(0, 0, 0, 0))

    assert total.item() == 0
    assert not total.requires_grad


def test_balanced_is_who_writes_among_those_that_may():
    scores = torch.tensor([[2.0, 0.0, 9.0], [0.0, 2.0, 9.0]])
    routing = choose(scores, 3, writers=[0, 1])

    _, terms = routing_loss(routing, routing, RoutingWeights())

    assert terms["balance"] == pytest.approx(0)


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, True, "1"])
def test_a_weight_that_is_no_number_from_none_on_is_refused(value: float):
    with pytest.raises(ConfigError, match=r"routing weight 'balance' is .*; give a number from 0"):
        RoutingWeights(balance=value)


def trained(weights: RoutingWeights, table: Tensor, steps: int = 300) -> Tensor:
    """Mean shares of each expert on either kind of prompt, [2, M], once a router was trained.

    Args:
        weights: Of the terms.
        table: The loss that each expert has on either kind of prompt, [2, M].
    """
    kinds = torch.arange(64) % 2
    embeddings = torch.nn.functional.normalize(
        torch.randn(64, 8, generator=drawn(0)) + 6 * torch.eye(8)[kinds]
    )
    router = ThoughtRouter(8, table.shape[1], hidden=16)
    router.settle(embeddings)
    optimiser = torch.optim.Adam(router.parameters(), lr=5e-3)
    generator, baseline = drawn(1), Baseline()
    for _ in range(steps):
        first, again = (router.choose(embeddings, 1, generator=generator) for _ in range(2))
        losses = table[kinds, first.primaries]
        baseline = baseline.after(losses)
        assert baseline.mean is not None
        total, _ = routing_loss(first, again, weights, losses=losses, baseline=baseline.mean)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    shares = router(embeddings).softmax(dim=1).detach()
    return torch.stack([shares[kinds == kind].mean(dim=0) for kind in (0, 1)])


def test_training_gives_each_kind_of_prompt_to_the_expert_that_loses_least_on_it():
    losses = torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])

    shares = trained(ONLY_CHOICE, losses)

    assert shares[0, 0] > 0.9
    assert shares[1, 2] > 0.9


def test_experts_are_used_alike_only_where_the_balance_asks_for_it():
    losses = torch.tensor([[1.0, 1.1], [1.0, 1.1]])

    free = trained(ONLY_CHOICE, losses)
    forced = trained(RoutingWeights(entropy=0, balance=1, consistency=0, choice=1), losses)

    assert free.mean(dim=0)[0] > 0.8
    assert 0.3 < forced.mean(dim=0)[0] < 0.7
