# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from composer.errors import ConfigError
from composer.latent.routing import (
    ThoughtRouter,
    choose,
    embedded,
    gumbel,
)
from routers.encoder import HashingEncoder

N, WIDTH, M = 12, 6, 5


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def logits(seed: int = 0, n: int = N, m: int = M) -> Tensor:
    return torch.randn(n, m, generator=drawn(seed))


@pytest.fixture
def embeddings() -> Tensor:
    """Of twelve prompts, of norm 1."""
    return torch.nn.functional.normalize(torch.randn(N, WIDTH, generator=drawn(1)))


@pytest.fixture
def router() -> ThoughtRouter:
    """Of five experts, untrained."""
    return ThoughtRouter(WIDTH, M, hidden=8)


@given(st.integers(1, 6), st.integers(1, 7), st.integers(0, 99), st.booleans(), st.data())
def test_exactly_k_distinct_experts_take_part_and_the_primary_is_the_first_of_them(
    n: int, m: int, seed: int, noisy: bool, data: st.DataObject
):
    k = data.draw(st.integers(1, m))
    scores = logits(seed, n, m)

    routing = choose(scores, k, noise=gumbel(scores, drawn(seed)) if noisy else None)

    assert routing.active.shape == (n, k)
    assert torch.equal(routing.active[:, 0], routing.primaries)
    for row, active in enumerate(routing.active.tolist()):
        assert len(set(active)) == k
        assert routing.weights[row].nonzero()[:, 0].tolist() == sorted(active)
        assert routing.writing[row].nonzero()[:, 0].tolist() == [active[0]]


def test_the_largest_logits_are_chosen_in_their_order():
    routing = choose(torch.tensor([[0.1, 3.0, -1.0, 2.0]]), 3)

    assert routing.active.tolist() == [[1, 3, 0]]


def test_equal_logits_still_give_distinct_experts():
    routing = choose(torch.zeros(2, 4), 4)

    assert routing.active.sort(dim=1).values.tolist() == [[0, 1, 2, 3]] * 2


@given(st.integers(0, 99))
def test_the_weights_of_the_chosen_are_one_exactly_and_those_of_others_none(seed: int):
    scores = (100 * logits(seed)).requires_grad_()

    routing = choose(scores, 2, temperature=0.3)

    for weights in (routing.weights, routing.writing):
        assert set(weights.flatten().tolist()) == {0.0, 1.0}


@given(st.integers(0, 99))
def test_the_gradient_of_the_weights_is_that_of_the_softmax_under_the_same_noise(seed: int):
    scores = logits(seed).requires_grad_()
    noise, of_weights = gumbel(scores, drawn(seed)), torch.randn(N, M, generator=drawn(seed + 1))
    shares = ((scores + noise) / 0.7).softmax(dim=1)
    (expected,) = torch.autograd.grad((shares * of_weights).sum(), scores)

    routing = choose(scores, 2, noise=noise, temperature=0.7)

    for weights in (routing.weights, routing.writing):
        (found,) = torch.autograd.grad((weights * of_weights).sum(), scores, retain_graph=True)
        assert torch.allclose(found, expected, atol=1e-6)


def test_the_gradient_of_a_chosen_experts_weight_reaches_the_whole_network(
    router: ThoughtRouter, embeddings: Tensor
):
    routing = router.choose(embeddings, 2, generator=drawn(0))

    routing.weights[:, 0].sum().backward()

    for parameter in router.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


def test_only_those_that_may_write_are_the_primary_and_the_others_stay_peers():
    scores = torch.tensor([[0.0, 1.0, 5.0, 4.0]], requires_grad=True)

    routing = choose(scores, 3, writers=[1, 0])
    routing.writing[:, 1].sum().backward()

    assert routing.active.tolist() == [[1, 2, 3]]
    assert routing.writers == (0, 1)
    assert scores.grad is not None
    assert scores.grad[0, 2:].tolist() == [0, 0]
    assert scores.grad[0, 1] > 0


def test_noise_is_added_in_training_only(router: ThoughtRouter, embeddings: Tensor):
    trained = router.train().choose(embeddings, 2, generator=drawn(0))
    used = router.eval().choose(embeddings, 2, generator=drawn(0))

    assert not torch.equal(trained.perturbed, trained.logits)
    assert torch.equal(used.perturbed, used.logits)
    assert torch.equal(used.primaries, router(embeddings).argmax(dim=1))


def test_in_training_every_expert_is_tried(router: ThoughtRouter, embeddings: Tensor):
    generator = drawn(0)

    tried = [router.choose(embeddings, 1, generator=generator).primaries for _ in range(20)]

    assert torch.cat(tried).unique().tolist() == list(range(M))


def test_noise_is_of_the_standard_gumbel_distribution():
    noise = gumbel(torch.zeros(200_000), drawn(0))

    assert torch.isfinite(noise).all()
    assert noise.mean().item() == pytest.approx(0.5772, abs=0.02)
    assert noise.std().item() == pytest.approx(math.pi / math.sqrt(6), abs=0.02)


def test_perturbed_choices_are_as_frequent_as_the_softmax_says():
    scores = torch.tensor([1.0, 0.0, -1.0]).repeat(50_000, 1)

    routing = choose(scores, 1, noise=gumbel(scores, drawn(0)))

    shares = routing.writing.mean(dim=0)
    assert torch.allclose(shares, scores[0].softmax(dim=0), atol=0.01)


def test_the_same_generator_gives_the_same_choices(router: ThoughtRouter, embeddings: Tensor):
    first, second = (router.choose(embeddings, 2, generator=drawn(3)) for _ in range(2))

    assert torch.equal(first.active, second.active)


def test_a_router_is_made_the_same_anew_and_draws_no_number_of_others():
    before = torch.random.get_rng_state()

    one, same, other = (ThoughtRouter(WIDTH, M, seed=seed) for seed in (1, 1, 2))

    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(one.inner.weight, same.inner.weight)
    assert not torch.equal(one.inner.weight, other.inner.weight)


def test_settling_takes_out_where_embeddings_lie_and_how_far_apart(
    router: ThoughtRouter, embeddings: Tensor
):
    moved = 0.01 * embeddings + 3
    router.settle(embeddings)
    before = router(embeddings)

    router.settle(moved)

    assert torch.allclose(router(moved), before, atol=1e-3)


def test_embeddings_that_are_all_alike_give_finite_logits(router: ThoughtRouter):
    alike = torch.ones(3, WIDTH)

    router.settle(alike)

    assert torch.isfinite(router(alike)).all()


def test_prompts_are_embedded_by_the_encoder_that_is_handed_in():
    encoder = HashingEncoder()

    found = embedded(encoder, ["What is law?", "What is 2 + 2?"])

    assert found.shape == (2, encoder.dimension)
    assert ThoughtRouter(encoder.dimension, M)(found).shape == (2, M)


def test_who_alone_may_write_has_no_share_in_the_choice_of_peers():
    scores = torch.zeros(1, 3)
    scores[0, 0] = 9
    scores.requires_grad_()

    routing = choose(scores, 2, writers=[0])
    routing.weights[0, routing.active[0, 1]].backward()

    assert scores.grad is not None
    assert float(scores.grad[0, 0]) == 0
    assert sorted(scores.grad[0, 1:].tolist()) == pytest.approx([-0.25, 0.25])


@pytest.mark.parametrize("k", [0, M + 1])
def test_more_experts_than_there_are_or_none_are_refused(k: int):
    with pytest.raises(ConfigError, match=f"{k} of 5 experts cannot be active; give 1 to 5"):
        choose(logits(), k)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_that_is_none_is_refused(temperature: float):
    with pytest.raises(ConfigError, match=r"'temperature' is .*; give a number above 0"):
        choose(logits(), 1, temperature=temperature)


@pytest.mark.parametrize("writers", [[], [M], [0, -1]])
def test_writers_that_are_no_experts_are_refused(writers: list[int]):
    with pytest.raises(ConfigError, match=r"writers .* are none of 5 experts"):
        choose(logits(), 1, writers=writers)
