from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import ConfigError, RoutingError
from composer.experts import Expert
from composer.types import Message, Query, Scores
from routers import make_router
from routers.encoder import HashingEncoder
from routers.retrieval.examples import Pilots, Pool, RetrievalRouter

if TYPE_CHECKING:
    from composer.types import Float32Array


class MapEncoder:
    """Texts to points of a plane, so that cosines can be told by eye; counts what it embeds."""

    def __init__(self, **points: tuple[float, float]) -> None:
        self.dimension = 2
        self.seen: list[str] = []
        self._points = points

    def encode(self, texts: Sequence[str]) -> Float32Array:
        self.seen.extend(texts)
        rows = np.array([self._points[text] for text in texts], np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


PLANE = {"east": (1.0, 0.0), "north": (0.0, 1.0), "between": (1.0, 1.0), "west": (-1.0, 0.0)}


def expert(name: str, *examples: str, description: str = "") -> Expert:
    return Expert(name=name, engine="scripted", examples=examples, description=description)


def router(
    *experts: Expert, pilots: Pilots = "each", pool: Pool = "max"
) -> tuple[RetrievalRouter, MapEncoder]:
    encoder = MapEncoder(**PLANE)
    made = RetrievalRouter({e.name: e for e in experts}, encoder, pilots=pilots, pool=pool)
    return made, encoder


def ask(made: RetrievalRouter, *texts: str) -> Scores:
    queries = [Query(text, (Message("user", text),)) for text in texts]
    return made.score(queries, [None] * len(queries))


@pytest.mark.parametrize(
    ("pilots", "pool", "quality"),
    [
        ("each", "max", 1.0),
        ("each", "mean", (1 + 0 + 0.5**0.5) / 3),
        ("mean", "max", 0.5**0.5),
        ("mean", "mean", 0.5**0.5),
    ],
)
def test_pilots_are_pooled_as_the_settings_say(pilots: Pilots, pool: Pool, quality: float):
    made, _ = router(expert("a", "east", "north", description="between"), pilots=pilots, pool=pool)

    assert ask(made, "east").quality.item() == pytest.approx(quality, abs=1e-6)


def test_opposite_examples_have_a_mean_pilot_near_to_nothing():
    made, _ = router(expert("a", "east", "west"), pilots="mean")

    np.testing.assert_array_equal(ask(made, "east", "north").quality, [[0], [0]])


def test_a_query_turned_away_from_an_expert_scores_zero():
    made, _ = router(expert("a", "west"))

    assert ask(made, "east").quality.item() == 0


def test_an_expert_that_says_nothing_of_itself_is_unknown():
    made, _ = router(expert("a", "east"), expert("b", description="  "))
    scores = ask(made, "east", "north")

    np.testing.assert_array_equal(np.isnan(scores.quality), [[False, True]] * 2)
    assert scores.why(0, 1).reason == "'b' has neither examples nor a description"


def test_scoring_is_refused_when_no_expert_says_anything_of_itself():
    made, _ = router(expert("a"), expert("b"))

    with pytest.raises(RoutingError, match=r"knows nothing of \['a', 'b'\]"):
        ask(made, "east")


def test_evidence_is_the_nearest_text_and_its_cosine():
    made, _ = router(expert("a", "north", "between"), expert("b", "north", description="east"))
    scores = ask(made, "east")

    assert scores.why(0, 0).details == {
        "kind": "example",
        "text": "between",
        "similarity": pytest.approx(0.5**0.5),
    }
    assert scores.why(0, 1).reason == "nearest is the description 'east', cosine 1.00"


def test_texts_are_embedded_once_and_not_before_the_first_query():
    made, encoder = router(expert("a", "east"), expert("b", "north"))
    assert encoder.seen == []

    ask(made, "between")
    ask(made, "between")

    assert encoder.seen == ["east", "north", "between", "between"]


def test_adding_an_expert_embeds_its_own_texts_only():
    made, encoder = router(expert("a", "east"))
    before = ask(made, "between")
    encoder.seen.clear()

    made.add_expert(expert("b", "north"))
    after = ask(made, "between")

    assert encoder.seen == ["north", "between"]
    assert after.experts == ("a", "b")
    assert before.experts == ("a",)
    np.testing.assert_array_equal(after.quality[:, :1], before.quality)


def test_an_expert_added_under_a_known_name_takes_its_place():
    made, _ = router(expert("a", "east"), expert("b", "north"))

    made.add_expert(expert("a", "north"))

    assert ask(made, "north").quality.tolist() == [[1, 1]]


def test_a_removed_expert_is_scored_no_more():
    made, encoder = router(expert("a", "east"), expert("b", "north"))
    earlier = ask(made, "east")
    encoder.seen.clear()

    made.remove_expert("a")

    assert ask(made, "east").experts == ("b",)
    assert encoder.seen == ["east"]
    assert earlier.why(0, 0).details["text"] == "east"
    with pytest.raises(ConfigError, match=r"no expert 'a'; choose from \['b'\]"):
        made.remove_expert("a")


@pytest.mark.parametrize(("setting", "choices"), [("pilots", "each"), ("pool", "max")])
def test_a_setting_out_of_its_choices_is_refused(setting: str, choices: str):
    with pytest.raises(ConfigError, match=rf"no {setting} 'all'; choose from \['{choices}'"):
        make_router(
            "retrieval", {"a": expert("a", "x")}, {setting: "all"}, encoder=HashingEncoder()
        )


@settings(deadline=None)
@given(
    st.lists(st.lists(st.text(max_size=12), min_size=1, max_size=4), min_size=1, max_size=4),
    st.text(max_size=12),
    st.sampled_from(["each", "mean"]),
    st.sampled_from(["max", "mean"]),
)
def test_the_order_of_the_experts_does_not_change_their_scores(
    examples: list[list[str]], query: str, pilots: Pilots, pool: Pool
):
    experts = {str(i): expert(str(i), *texts) for i, texts in enumerate(examples)}
    turned = dict(reversed(experts.items()))

    first, second = (
        ask(RetrievalRouter(e, HashingEncoder(), pilots=pilots, pool=pool), query)
        for e in (experts, turned)
    )

    np.testing.assert_allclose(first.quality, second.quality[:, ::-1], atol=1e-6)


@settings(deadline=None)
@given(st.text(max_size=30), st.text(max_size=30))
def test_an_expert_scores_its_own_example_highest(example: str, other: str):
    made = RetrievalRouter({"a": expert("a", example)}, HashingEncoder())
    quality = ask(made, example, other).quality[:, 0]

    assert quality[0] == pytest.approx(1, abs=1e-6)
    assert quality[0] >= quality[1] - 1e-6
