"""The router that was trained with a group, on its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from composer.errors import ConfigError
from composer.latent.routing import ThoughtRouter
from composer.outcomes import OutcomeTable
from composer.types import Message, Query
from routers import load_router
from routers.encoder import HashingEncoder
from routers.thoughts.mixture import MixtureRouter

EXPERTS = ("ann", "bea", "cleo", "dan")
QUERIES = [
    Query(str(i), (Message("user", text),))
    for i, text in enumerate(("What is law?", "What is 2 + 2?", "Translate this to Greek", "red"))
]


def make(writers: tuple[int, ...] = (0, 1, 2, 3)) -> MixtureRouter:
    """One whose weights were drawn, and never trained."""
    encoder = HashingEncoder()
    network = ThoughtRouter(encoder.dimension, len(EXPERTS), hidden=8, seed=3).eval()
    for weight in network.parameters():
        weight.data.normal_(generator=torch.Generator().manual_seed(0))
    return MixtureRouter(network, EXPERTS, writers, 2, encoder)


def quality(router: MixtureRouter) -> np.ndarray:
    return router.score(QUERIES, [None] * len(QUERIES)).quality


@pytest.mark.parametrize("writers", [(0, 1, 2, 3), (2,), (1, 3)])
def test_the_best_score_is_that_of_an_expert_that_may_write(writers: tuple[int, ...]) -> None:
    found = quality(make(writers))

    assert found.shape == (4, 4)
    assert found.dtype == np.float32
    assert ((found >= 0) & (found <= 1)).all()
    assert np.allclose(found.sum(axis=1), 1)
    assert set(found.argmax(axis=1).tolist()) <= set(writers)


def test_the_others_keep_the_order_of_their_shares() -> None:
    free, held = quality(make()), quality(make((2,)))

    for row in range(len(QUERIES)):
        order = [e for e in np.argsort(-free[row], kind="stable").tolist() if e != 2]
        assert [e for e in np.argsort(-held[row], kind="stable").tolist() if e != 2] == order


def test_it_says_how_large_the_share_is_and_who_writes() -> None:
    scores = make((2,)).score(QUERIES, [None] * 4)

    why = scores.why(0, 2)

    assert why.reason.endswith("of the routing, and writes")
    assert 0 <= why.details["share"] <= 1
    assert not scores.why(0, 1).details["writes"]


def test_what_was_saved_scores_alike(tmp_path: Path) -> None:
    router = make((1, 3))
    router.save(tmp_path)

    again = load_router(tmp_path, encoder=HashingEncoder())

    assert again.experts == EXPERTS
    assert again.settings == {"k": 2, "primaries": ["bea", "dan"]}
    assert np.array_equal(again.score(QUERIES, [None] * 4).quality, quality(router))


def test_another_encoder_is_refused(tmp_path: Path) -> None:
    make().save(tmp_path)

    with pytest.raises(ConfigError, match="was trained with another encoder"):
        load_router(tmp_path, encoder=HashingEncoder(dimension=64))


def test_a_broken_one_is_refused_with_the_remedy(tmp_path: Path) -> None:
    make().save(tmp_path)
    about = json.loads((tmp_path / "router.json").read_text("utf-8"))
    about["meta"]["experts"] = ["ann"]
    (tmp_path / "router.json").write_text(json.dumps(about), "utf-8")

    with pytest.raises(ConfigError, match=r"is no router .*composer latent fit --router"):
        load_router(tmp_path, encoder=HashingEncoder())


def test_it_learns_nothing_from_recorded_outcomes() -> None:
    table = OutcomeTable.__new__(OutcomeTable)

    with pytest.raises(ConfigError, match="is trained with its group"):
        make().fit(table)
