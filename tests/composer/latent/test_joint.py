"""A router that is trained together with the interaction of its experts."""

# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from composer.errors import ConfigError
from composer.latent.answer_loss import answer_nats, evaluate
from composer.latent.fitting import fit_group
from composer.latent.joint import JointRouter, chosen, embed_rows, make_joint
from composer.latent.members import Thinker
from composer.latent.recipe import Recipe
from composer.latent.routing import ThoughtRouter
from composer.latent.routing_losses import routing_loss
from composer.latent.rows import Row
from composer.latent.settings import LatentSettings
from composer.latent.states_cache import StatesCache
from composer.latent.study import Study
from composer.latent.training import rows_at, train
from composer.types import Member, Message
from routers.encoder import HashingEncoder
from tests.composer.latent.groups import thinkers
from tests.composer.latent.test_training import RECIPE, ROWS, Interruption, end_at, same, weights
from tests.composer.latent.test_training import study as read_study

JOINT = replace(RECIPE, router=True, router_hidden=8, router_rate=0.05)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> tuple[Thinker, ...]:
    """Three experts of different families."""
    return thinkers(tmp_path_factory.mktemp("three"), ("llama", "gemma", "qwen"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> StatesCache:
    """What all tests of these experts share."""
    return StatesCache(tmp_path_factory.mktemp("states"))


def study(three: tuple[Thinker, ...], cache: StatesCache, **given: Any) -> Study:
    shape: dict[str, Any] = {"active": 2, "opened": 0.3} | given
    return read_study(three, cache, **shape)


def joint(made: Study, recipe: Recipe = JOINT) -> JointRouter:
    names = [thinker.name for thinker in made.group.thinkers]
    writers = [names.index(name) for name in made.primaries]
    settings = made.group.settings
    embeddings = embed_rows(HashingEncoder(), made.rows)
    return make_joint(embeddings, writers, len(names), settings, recipe)


def router_weights(router: JointRouter) -> dict[str, Tensor]:
    return {name: w.detach().clone() for name, w in router.network.named_parameters()}


def gradients(router: JointRouter) -> dict[str, Tensor]:
    named = router.network.named_parameters()
    return {name: w.grad.clone() for name, w in named if w.grad is not None}


def test_the_routers_gradient_is_that_of_one_loss_of_both(
    three: tuple[Thinker, ...], cache: StatesCache
) -> None:
    recipe = replace(JOINT, batch=8, choice=0.5)
    made = study(three, cache, primaries=("llama", "gemma"))
    router = joint(made, recipe)
    rows = rows_at(len(ROWS), recipe, 0)
    drawn = router.draw(rows, 0)
    # One after another, the gradient of the weights kept between.
    losses: list[float] = []
    for place, (row, who) in enumerate(zip(rows, drawn.who, strict=True)):
        (nats,) = answer_nats(made, who, [row], weights=drawn.weights[[place]])
        (nats.sum() / 100).backward()
        losses.append(nats.mean().item())
    terms = router.backward(drawn, losses, None)
    ours = gradients(router)

    # All in one graph.
    router.network.zero_grad()
    whole = router.draw(rows, 0)
    total = torch.zeros(())
    for place, (row, who) in enumerate(zip(rows, whole.who, strict=True)):
        (nats,) = answer_nats(made, who, [row], weights=whole.routing.weights[[place]])
        total = total + nats.sum() / 100
    baseline = float(np.mean(losses))
    auxiliary, _ = routing_loss(
        whole.routing, whole.again, router.weights, losses=torch.tensor(losses), baseline=baseline
    )
    (total + auxiliary).backward()

    assert whole.who == drawn.who
    assert terms["baseline"] == pytest.approx(baseline)
    assert {"entropy", "balance", "consistency", "choice"} < terms.keys()
    assert ours.keys() == dict(router.network.named_parameters()).keys()
    for name, gradient in gradients(router).items():
        assert torch.allclose(ours[name], gradient, atol=1e-6), name
        assert gradient.abs().sum() > 0


def test_weights_of_taking_part_change_no_number_on_the_way_forward(
    three: tuple[Thinker, ...], cache: StatesCache
) -> None:
    made = study(three, cache)
    drawn = joint(made).draw([0, 1], 0)

    for place, who in enumerate(drawn.who):
        (plain,) = answer_nats(made, who, [place])
        (weighted,) = answer_nats(made, who, [place], weights=drawn.weights[[place]])
        assert torch.equal(plain, weighted)


def test_a_step_draws_the_same_whatever_was_drawn_before(
    three: tuple[Thinker, ...], cache: StatesCache
) -> None:
    router = joint(study(three, cache))
    first = router.draw([0, 1, 2], 4)
    router.draw([3, 4], 5)

    assert torch.equal(router.draw([0, 1, 2], 4).routing.perturbed, first.routing.perturbed)
    assert not torch.equal(router.draw([0, 1, 2], 5).routing.perturbed, first.routing.perturbed)
    assert all(len(who) == 2 and who[0] == 0 for who in first.who)


@pytest.mark.parametrize("ended", [1, 3])
def test_a_run_with_a_router_that_was_ended_comes_to_the_same_weights_bit_for_bit(
    three: tuple[Thinker, ...], cache: StatesCache, tmp_path: Path, ended: int
) -> None:
    whole, cut, again = (study(three, cache, primaries=("llama", "qwen")) for _ in range(3))
    routers = [joint(made) for made in (whole, cut, again)]
    steps = train(whole, tmp_path / "whole", JOINT, joint=routers[0])
    with pytest.raises(Interruption):
        train(cut, tmp_path / "cut", JOINT, joint=routers[1], on_step=end_at(ended))

    found = train(again, tmp_path / "cut", JOINT, joint=routers[2])

    assert found == steps
    assert same(weights(whole), weights(again))
    assert same(router_weights(routers[0]), router_weights(routers[2]))
    assert not same(router_weights(routers[0]), router_weights(joint(whole)))
    assert all(step.terms and np.isfinite(list(step.terms.values())).all() for step in steps)


def test_the_router_learns_who_loses_less(
    three: tuple[Thinker, ...], cache: StatesCache, tmp_path: Path
) -> None:
    made = study(three, cache, opened=0.0, primaries=("llama", "qwen"), active=3)
    losses = np.array(
        [
            [loss.nats / loss.n_tokens for loss in evaluate(made, who=[who] * len(ROWS))]
            for who in ((0, 1, 2), (2, 0, 1))
        ]
    )
    # The experts stay what they are: only the router has a rate to speak of.
    recipe = replace(
        JOINT, steps=150, batch=8, learning_rate=1e-9, gate_rate=1e-9, keep_every=150, entropy=0.0
    )
    router = joint(made, recipe)

    train(made, tmp_path, recipe, joint=router)

    picked = chosen(router.network, router.embeddings, router.k, router.writers)
    better = np.array([0, 2])[losses.argmin(axis=0)]
    clear = np.abs(losses[0] - losses[1]) > 0.1
    assert clear.sum() >= 4
    assert {0, 2} == set(better[clear])
    assert [who[0] for who, is_clear in zip(picked, clear, strict=True) if is_clear] == list(
        better[clear]
    )


def test_a_group_is_saved_with_whom_its_router_chose(
    three: tuple[Thinker, ...], tmp_path: Path
) -> None:
    rows = [*ROWS[:5], *(replace(row, split="test") for row in ROWS[5:])]
    kept: list[tuple[ThoughtRouter, list[int], int]] = []
    members = [Member(t.name, t.name) for t in three]

    artefact, steps = fit_group(
        members,
        three,
        rows,
        tmp_path / "group",
        LatentSettings(levels=2, width=16, heads=2, active=2),
        JOINT,
        encoder=HashingEncoder(),
        keep_router=lambda network, writers, k: kept.append((network, list(writers), k)),
    )

    ((network, writers, k),) = kept
    assert (writers, k, network.experts, network.training) == ([0], 2, 3, False)
    assert artefact.training is not None
    assert artefact.training["terms"] == steps[-1].terms
    shares: dict[str, float] = artefact.training["held_out"]["chosen"]
    assert sum(shares.values()) == pytest.approx(1)
    assert set(shares) <= {"llama+gemma", "llama+qwen"}


def test_a_router_without_a_choice_is_refused(
    three: tuple[Thinker, ...], cache: StatesCache
) -> None:
    with pytest.raises(ConfigError, match=r"nothing to choose: .*; give --active below"):
        joint(study(three, cache, active=None))


def test_rows_that_say_who_takes_part_leave_a_router_nothing(
    three: tuple[Thinker, ...], cache: StatesCache
) -> None:
    row = Row((Message("user", "red"),), "one", experts=("llama", "gemma"), where="rows:1")

    with pytest.raises(ConfigError, match=r"rows:1: names experts .*; leave 'experts' out"):
        joint(study(three, cache, rows=[row]))
