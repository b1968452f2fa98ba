"""Bayes' rule over experts, in log space."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.aggregators.ensemble.posterior import (
    cached_prior,
    domain_posterior,
    largest,
    mixture,
    normalised,
    running_posterior,
    softmax,
    uniform_prior,
    update_prior,
)

NATS = st.floats(-1e5, 0.0)
PRIOR = st.floats(1e-6, 1e6)


def test_the_posterior_is_prior_times_likelihood_normalised() -> None:
    posterior = domain_posterior([0.75, 0.25], [math.log(0.1), math.log(0.6)])

    assert posterior == pytest.approx((0.075 / 0.225, 0.15 / 0.225))


def test_a_tempered_likelihood_counts_by_its_power() -> None:
    posterior = domain_posterior([0.5, 0.5], [math.log(0.04), math.log(0.09)], tau=0.5)

    assert posterior == pytest.approx((0.4, 0.6))


def test_at_tau_0_the_posterior_is_the_prior() -> None:
    assert domain_posterior([3.0, 1.0], [-math.inf, 0.0], tau=0) == pytest.approx((0.75, 0.25))


def test_an_expert_without_prior_stays_without_weight() -> None:
    assert domain_posterior([0.0, 1.0], [0.0, -1e6]) == (0.0, 1.0)


def test_likelihoods_of_long_texts_do_not_underflow() -> None:
    assert domain_posterior([0.5, 0.5], [-1e6, -1e6]) == (0.5, 0.5)


@given(st.lists(st.tuples(PRIOR, NATS), min_size=1, max_size=6), st.floats(0, 1))
def test_weights_are_shares(experts: list[tuple[float, float]], tau: float) -> None:
    prior, nats = zip(*experts, strict=True)

    weights = domain_posterior(prior, nats, tau)

    assert math.fsum(weights) == pytest.approx(1)
    assert all(0 <= weight <= 1 for weight in weights)


@given(st.lists(st.tuples(NATS, NATS), min_size=1, max_size=5), st.floats(-1e4, 1e4))
def test_what_all_experts_find_alike_changes_nothing(
    tokens: list[tuple[float, float]], shift: float
) -> None:
    nats = [sum(token[j] for token in tokens) for j in (0, 1)]

    plain = domain_posterior([0.5, 0.5], nats, 0.001)

    assert domain_posterior([0.5, 0.5], [n + shift for n in nats], 0.001) == pytest.approx(plain)


def test_the_running_posterior_is_that_of_all_tokens_so_far() -> None:
    logprobs = [[math.log(0.2), math.log(0.9), math.log(0.5)], [math.log(0.8)] * 3]

    weights = running_posterior(uniform_prior(2), logprobs)

    assert weights[0] == (0.5, 0.5)
    assert weights[1] == pytest.approx((0.2, 0.8))
    assert weights[2] == pytest.approx((0.18 / 0.82, 0.64 / 0.82))
    assert weights[3] == pytest.approx((0.09 / 0.602, 0.512 / 0.602))


@given(st.lists(st.tuples(NATS, NATS, NATS), max_size=8), st.floats(0, 1))
def test_the_last_running_posterior_is_that_of_the_whole_text(
    tokens: list[tuple[float, float, float]], tau: float
) -> None:
    logprobs = [[token[j] for token in tokens] for j in range(3)]

    weights = running_posterior([1.0, 2.0, 3.0], logprobs, tau)

    assert len(weights) == len(tokens) + 1
    whole = domain_posterior([1.0, 2.0, 3.0], [sum(of) for of in logprobs], tau)
    assert weights[-1] == pytest.approx(whole)


def test_an_updating_prior_moves_by_the_share_of_the_newest_block() -> None:
    assert update_prior((0.5, 0.5), (1.0, 0.0), 0.3) == pytest.approx((0.65, 0.35))


def test_a_cached_prior_starts_as_the_first_block_and_averages_the_rest() -> None:
    blocks = [(1.0, 0.0), (0.0, 1.0), (0.5, 0.5)]

    assert cached_prior(blocks, 0.3) == pytest.approx((0.64, 0.36))
    assert cached_prior(blocks[:1]) == (1.0, 0.0)


def test_the_largest_are_taken_in_their_order_and_of_equals_the_first() -> None:
    assert largest([0.1, 0.4, 0.1, 0.4], 2) == (1, 3)
    assert largest([0.2, 0.2, 0.5], 2) == (0, 2)
    assert largest([0.2, 0.8], 5) == (0, 1)


def test_a_mixture_is_the_weighted_sum_of_distributions() -> None:
    mixed = mixture([0.25, 0.75], [[0.2, 0.8], [0.6, 0.4]])

    assert mixed == pytest.approx((0.5, 0.5))
    assert mixture([1.0, 0.0], [[0.2, 0.8], [0.6, 0.4]]) == (0.2, 0.8)


def test_an_impossible_score_has_no_share() -> None:
    assert softmax([-math.inf, 0.0]) == (0.0, 1.0)


@given(st.lists(PRIOR, min_size=1, max_size=6))
def test_normalising_keeps_ratios(weights: list[float]) -> None:
    shares = normalised(weights)

    assert math.fsum(shares) == pytest.approx(1)
    assert [s / shares[0] for s in shares] == pytest.approx([w / weights[0] for w in weights])
