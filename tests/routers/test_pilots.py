from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.errors import ConfigError
from composer.outcomes import RecordedExpert
from composer.types import Message, Query
from routers.learning import Batch, Training
from routers.retrieval.learner import PilotsLearner
from routers.retrieval.model import PilotsModel
from routers.retrieval.wins import winners

NAN = math.nan
MakeTraining = Callable[..., Training]
EAST, NORTH, WEST, SOUTH = (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)
HALF = 0.5**0.5


def batch(*points: tuple[float, float], categories: Sequence[str | None] | None = None) -> Batch:
    n = len(points)
    at = np.array(points, np.float32)
    texts = tuple(f"q{i}" for i in range(n))
    return Batch(texts, texts, at, at, tuple(categories or [None] * n), (None,) * n)


def training(
    points: Sequence[tuple[float, float]],
    score: Sequence[Sequence[float]],
    categories: Sequence[str | None] | None = None,
) -> Training:
    """Queries on a plane, so that cosines can be told by eye; all in one fold."""
    experts = tuple(RecordedExpert(name) for name in "abcdefgh"[: len(score[0])])
    rows = batch(*points, categories=categories)
    return Training(rows, experts, np.array(score, np.float32), np.zeros(len(points), np.int64))


def learn(recorded: Training, **given: Any) -> PilotsModel:
    model = PilotsLearner(**given).fit(recorded).model
    assert isinstance(model, PilotsModel)
    return model


def two_winners() -> Training:
    """The expert a wins east and b north; each query is of the category of its winner."""
    return training([EAST, EAST, NORTH, NORTH], [[1, 0], [1, 0], [0, 1], [0, 1]], list("eenn"))


def mean_of_choices(recorded: Training, raw: Any) -> float:
    return float(recorded.score[np.arange(len(raw)), raw.argmax(axis=1)].mean())


@pytest.mark.parametrize("told", [False, True])
def test_held_out_queries_go_to_the_expert_of_their_subject(make_lesson: MakeTraining, told: bool):
    recorded = make_lesson(240)
    lesson = PilotsLearner().fit(recorded)

    raw = lesson.held_out_known if told else lesson.held_out
    assert mean_of_choices(recorded, raw) > recorded.score.mean(axis=0).max() + 0.25


@pytest.mark.parametrize(
    ("score", "won"),
    [
        ([0.9, 0.2, 0.9], [0.5, 0, 0.5]),
        ([0.9, NAN, 0.1], [1, 0, 0]),
        ([0.3, 0.3, 0.3], [0, 0, 0]),
        ([0.3, NAN, NAN], [0, 0, 0]),
    ],
)
def test_a_query_is_shared_by_its_winners_and_won_by_none_where_all_tie(
    score: list[float], won: list[float]
):
    assert winners(np.array([score], np.float32)).tolist() == [won]


@given(
    st.lists(
        st.lists(st.sampled_from([0.0, 0.5, 1.0, NAN]), min_size=4, max_size=4), min_size=1
    ).filter(lambda rows: all(any(not math.isnan(cell) for cell in row) for row in rows)),
    st.permutations(range(4)),
)
def test_the_order_of_the_experts_does_not_change_who_wins(
    rows: list[list[float]], order: list[int]
):
    score = np.array(rows, np.float32)

    np.testing.assert_array_equal(winners(score)[:, order], winners(score[:, order]))


def test_a_pilot_is_the_mean_of_the_queries_of_a_category_that_an_expert_won():
    model = learn(
        training(
            [EAST, NORTH, WEST, SOUTH],
            [[1, 0], [1, 0], [0, 1], [1, 0]],
            ["one", "one", "one", "two"],
        ),
        share_weight=0.0,
    )

    pilots = {
        (int(o), int(p)): v
        for o, p, v in zip(model.owners, model.parts, model.vectors, strict=True)
    }
    assert set(pilots) == {(0, 0), (1, 0), (0, 1)}
    np.testing.assert_allclose(pilots[0, 0], [HALF, HALF], rtol=1e-6)
    np.testing.assert_allclose(pilots[1, 0], WEST, rtol=1e-6)
    np.testing.assert_allclose(pilots[0, 1], SOUTH, rtol=1e-6)


def test_a_pilot_that_is_not_normalised_is_as_long_as_its_queries_agree():
    recorded = training([EAST, NORTH, WEST], [[1, 0], [1, 0], [0, 1]])

    model = learn(recorded, k=1, normalise=False)

    np.testing.assert_allclose(np.linalg.norm(model.vectors, axis=1), [HALF, 1], rtol=1e-6)


def test_shared_wins_count_in_part_and_the_share_is_of_what_the_expert_was_asked():
    recorded = training([EAST] * 4, [[1, 1, 0], [1, 0, NAN], [1, 0, NAN], [0, 0, 0]], ["one"] * 4)

    model = learn(recorded, min_wins=0.0)

    assert model.owners.tolist() == [0, 1]
    assert model.wins.tolist() == [2.5, 0.5]
    np.testing.assert_allclose(model.shares, [2.5 / 3, 0.5 / 3])


def test_wins_too_few_make_no_pilot_unless_they_are_the_most_of_the_expert():
    points, categories = [EAST] * 4 + [NORTH] * 3, ["e"] * 4 + ["n"] * 3
    score = [[1, 0], [1, 0], [1, 0], [0, 1], [1, 0], [0, 1], [0, 1]]

    cells = {
        least: {
            (int(owner), int(part)) for owner, part in zip(model.owners, model.parts, strict=True)
        }
        for least in (1.0, 2.0, 100.0)
        for model in [learn(training(points, score, categories), min_wins=least)]
    }

    assert cells[1.0] == {(0, 0), (1, 0), (0, 1), (1, 1)}
    assert cells[2.0] == cells[100.0] == {(0, 0), (1, 1)}


def test_of_two_equally_near_the_one_that_won_more_scores_higher_unless_shares_weigh_nothing():
    recorded = training([EAST] * 4, [[1, 0], [1, 0], [1, 0], [0, 1]])

    weighed, not_weighed = (
        learn(recorded, share_weight=weight).predict(batch(EAST))[0] for weight in (0.2, 0.0)
    )

    assert weighed[0] - weighed[1] == pytest.approx(0.2 * math.log(3))
    assert not_weighed[0] == not_weighed[1]


@pytest.mark.parametrize(("pool", "cosine"), [("max", 1.0), ("mean", 0.5)])
def test_pilots_are_pooled_as_the_settings_say(pool: Any, cosine: float):
    recorded = training([EAST, NORTH, WEST], [[1, 0], [1, 0], [0, 1]], ["e", "n", "w"])

    raw = learn(recorded, pool=pool, share_weight=0.0).predict(batch(EAST))[0]

    assert raw[0] - raw[1] == pytest.approx(cosine + 1)


def test_a_query_of_known_category_is_compared_with_the_pilots_of_that_category():
    recorded = training(
        [EAST, SOUTH, NORTH, NORTH], [[1, 0], [0, 1], [1, 0], [0, 1]], ["e", "e", "n", "n"]
    )
    model = learn(recorded, share_weight=0.0)

    hidden, told, strange = model.predict(batch(NORTH, NORTH, NORTH, categories=[None, "e", "?"]))

    assert hidden[0] == hidden[1]
    assert told[0] - told[1] == pytest.approx(1)
    np.testing.assert_array_equal(strange, hidden)


def test_an_expert_without_a_pilot_in_the_category_is_compared_with_its_others():
    model = learn(two_winners(), share_weight=0.0)

    told, hidden = model.predict(batch(EAST, EAST, categories=["e", None]))

    np.testing.assert_allclose(told, hidden)
    assert model.why(batch(EAST, categories=["e"]), 0, 1).details["category"] == "n"


def test_all_experts_score_higher_where_recorded_queries_were_easier():
    points, categories = [EAST] * 4 + [NORTH] * 4, ["e"] * 4 + ["n"] * 4
    score = [[1, 1], [1, 1], [1, 0], [0, 1], [0, 0], [0, 0], [1, 0], [0, 1]]
    model = learn(training(points, score, categories))

    easy, hard = model.predict(batch(EAST, NORTH))

    np.testing.assert_allclose(easy - hard, 0.5, atol=1e-6)


def test_an_expert_that_never_wins_scores_lowest_and_one_unknown_is_unknown():
    recorded = training(
        [EAST, EAST, NORTH], [[1, 0, 0, NAN], [1, 0, 0, NAN], [0, 1, 0, NAN]], list("een")
    )

    raw = learn(recorded).predict(batch(EAST, NORTH))

    assert (raw[:, 2] < raw[:, :2].min(axis=1)).all()
    assert np.isnan(raw[:, 3]).all()


def test_how_near_a_query_is_to_anything_recorded_changes_no_score():
    model = learn(training([EAST, EAST], [[1, 0], [1, 0]]))

    near, far = model.predict(batch(EAST, SOUTH))[:, 0]

    assert near == pytest.approx(far)


def test_the_slope_brings_raw_advantages_to_the_size_of_recorded_ones(make_lesson: MakeTraining):
    recorded = make_lesson(240)

    lesson = PilotsLearner().fit(recorded)

    held_out, of_model, y = (
        a - a.mean(axis=1, keepdims=True)
        for a in (
            lesson.held_out,
            lesson.model.predict(recorded.batch.without_categories()),
            recorded.score,
        )
    )
    assert (held_out * y).sum() / (held_out**2).sum() == pytest.approx(1, abs=0.02)
    assert of_model.std() / held_out.std() == pytest.approx(1, abs=0.2)


def test_held_out_scores_do_not_know_of_the_outcomes_held_out(make_lesson: MakeTraining):
    recorded = make_lesson()
    held = recorded.folds == recorded.folds[0]
    other = replace(recorded, score=np.where(held[:, None], 1 - recorded.score, recorded.score))

    # But for the slope, which is one number learned from all of them.
    first, second = (
        (raw - raw.mean(axis=1, keepdims=True))[held]
        for raw in (PilotsLearner(share_weight=0.2).fit(t).held_out for t in (recorded, other))
    )

    np.testing.assert_allclose(first / first.std(), second / second.std(), atol=1e-4)


def test_the_share_weight_left_open_is_that_of_the_best_held_out_choices(
    make_lesson: MakeTraining,
):
    recorded = make_lesson(180, seed=3)

    chosen = PilotsLearner().fit(recorded)
    means = {
        weight: mean_of_choices(recorded, PilotsLearner(share_weight=weight).fit(recorded).held_out)
        for weight in (0.05, 0.1, 0.2, 0.4)
    }

    assert means[chosen.model.settings["share_weight"]] == max(means.values())


def test_experts_get_offsets_of_their_own_only_where_shares_weigh_nothing():
    assert PilotsLearner(share_weight=0).fit(two_winners()).own_offsets
    assert not PilotsLearner(share_weight=0.1).fit(two_winners()).own_offsets


@pytest.mark.parametrize(
    ("is_told", "given", "n_parts"),
    [
        (True, {}, 3),
        (False, {}, 12),
        (False, {"k": 5}, 5),
        (True, {"k": 5}, 12),
        (False, {"k": 1}, 1),
    ],
)
def test_categories_are_divided_in_parts_that_are_not_too_small(
    make_lesson: MakeTraining, is_told: bool, given: dict[str, Any], n_parts: int
):
    recorded = make_lesson(240)
    if not is_told:
        recorded = replace(recorded, batch=recorded.batch.without_categories())

    assert len(learn(recorded, **given).categories) == n_parts


def test_queries_without_categories_still_go_to_the_expert_of_their_subject(
    make_lesson: MakeTraining,
):
    recorded = make_lesson(240)
    recorded = replace(recorded, batch=recorded.batch.without_categories())

    raw = PilotsLearner().fit(recorded).held_out

    assert mean_of_choices(recorded, raw) > recorded.score.mean(axis=0).max() + 0.2


def test_removing_an_expert_leaves_the_others_scores(make_lesson: MakeTraining):
    recorded = make_lesson(unknown=0.2)
    model = learn(recorded)

    left = model.without(1).predict(recorded.batch)

    np.testing.assert_array_equal(left, model.predict(recorded.batch)[:, [0, 2]])


def test_an_expert_that_never_wins_scores_the_same_when_others_leave():
    points, score = [EAST] * 4, [[1, 0, 0], [1, 0, 0], [1, 0, 0], [0, 1, 0]]
    model = learn(training(points, score), share_weight=0.2)

    left = model.without(1).predict(batch(EAST))

    np.testing.assert_array_equal(left, model.predict(batch(EAST))[:, [0, 2]])


def test_an_expert_that_joins_takes_nothing_from_the_others(make_lesson: MakeTraining):
    recorded = make_lesson(unknown=0.2)
    two = replace(recorded, score=recorded.score[:, [0, 2]], experts=recorded.experts[::2])
    before = learn(two)

    after = before.with_expert(recorded, 1)

    np.testing.assert_array_equal(
        after.predict(recorded.batch)[:, [0, 2]], before.predict(recorded.batch)
    )
    own, anew = after.owners == 1, learn(recorded)
    np.testing.assert_allclose(after.vectors[own], anew.vectors[anew.owners == 1], atol=1e-6)
    np.testing.assert_allclose(after.shares[own], anew.shares[anew.owners == 1])


def test_an_expert_that_joins_and_leaves_again_leaves_no_trace(make_lesson: MakeTraining):
    recorded = make_lesson()
    two = replace(recorded, score=recorded.score[:, 1:], experts=recorded.experts[1:])
    model = learn(two)

    _, arrays = model.with_expert(recorded, 0).without(0).state()

    for name, array in model.state()[1].items():
        np.testing.assert_array_equal(arrays[name], array)


@pytest.mark.parametrize("order", [[2, 0, 1], [1, 0, 2]])
def test_the_order_of_the_experts_does_not_matter(make_lesson: MakeTraining, order: list[int]):
    recorded = make_lesson(60, unknown=0.2)
    turned = replace(
        recorded,
        score=recorded.score[:, order],
        experts=tuple(recorded.experts[column] for column in order),
    )

    first, second = (PilotsLearner().fit(each).held_out for each in (recorded, turned))

    np.testing.assert_allclose(first[:, order], second, atol=1e-5)


def test_a_query_scores_alone_as_it_does_among_others(make_lesson: MakeTraining):
    recorded = make_lesson()
    model = learn(recorded)

    alone = np.concatenate([model.predict(recorded.batch.rows(np.array([i]))) for i in range(9)])

    np.testing.assert_allclose(alone, model.predict(recorded.batch)[:9], atol=1e-5)


def test_a_saved_model_scores_alike(make_lesson: MakeTraining):
    recorded = make_lesson(unknown=0.2)
    learner = PilotsLearner(k=2)
    model = learner.fit(recorded).model
    meta, arrays = model.state()

    restored = learner.restore(json.loads(json.dumps(meta)), arrays)

    np.testing.assert_array_equal(restored.predict(recorded.batch), model.predict(recorded.batch))
    assert restored.settings == model.settings
    with pytest.raises(KeyError):
        learner.restore(meta, {})


def test_evidence_names_the_nearest_pilot_and_how_much_its_expert_won_there():
    model = learn(
        training([EAST] * 4 + [NORTH], [[1, 0], [1, 0], [1, 0], [0, 1], [0, 1]], list("eeeen"))
    )

    why = model.why(batch(NORTH, EAST), 1, 0)

    assert why.reason == (
        "similarity 1.00 to the 3 recorded queries in 'e' on which it was the best, 75% of those"
    )
    assert (
        why.details.items()
        >= {
            "category": "e",
            "similarity": 1.0,
            "wins": 3.0,
            "share": 0.75,
        }.items()
    )


def test_the_parts_in_the_evidence_sum_to_the_raw_score_and_the_last_is_the_same_for_all(
    make_lesson: MakeTraining,
):
    recorded = make_lesson()
    model = learn(recorded)
    raw = model.predict(recorded.batch)

    for row in range(5):
        parts = [model.why(recorded.batch, row, column).details["parts"] for column in range(3)]
        np.testing.assert_allclose([sum(each.values()) for each in parts], raw[row], rtol=1e-5)
        assert len({round(each["the same for all"], 5) for each in parts}) == 1


def test_evidence_of_pooled_means_has_no_parts():
    model = learn(two_winners(), pool="mean")

    assert "parts" not in model.why(batch(EAST), 0, 0).details


def test_evidence_says_when_there_is_no_pilot():
    model = learn(training([EAST, EAST], [[1, 0, NAN], [1, 0, NAN]]))

    assert model.why(batch(EAST), 0, 1).reason == "it was the best on none of the recorded queries"
    assert model.why(batch(EAST), 0, 2).reason == "no outcome of it is known"


def test_rows_of_one_fold_leave_nothing_held_out():
    lesson = PilotsLearner().fit(two_winners())

    assert np.isnan(lesson.held_out).all()
    assert np.isnan(lesson.held_out_known).all()


def test_where_all_experts_tie_they_go_on_tying():
    raw = learn(training([EAST, NORTH], [[1, 1], [0, 0]])).predict(batch(EAST))

    assert raw[0, 0] == raw[0, 1]


def test_settings_are_given_back_as_they_were_given():
    given = {"pool": "mean", "k": 3, "share_weight": 0.3, "normalise": False, "min_wins": 2}

    assert PilotsLearner(**given).given == given  # pyright: ignore[reportArgumentType]
    assert PilotsLearner().given["k"] is None


def test_a_query_needs_no_annotation():
    query = Query("q", (Message("user", "Why?"),))

    assert PilotsLearner().annotate(query, ["a"]) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pool": "min"}, r"has no pool 'min'; choose from \['max', 'mean'\]"),
        ({"k": 0}, r"'k' is 0; give a whole number from 1, or leave it out"),
        ({"share_weight": -1}, r"'share_weight' is -1; give a number from 0, or leave it out"),
        ({"min_wins": None}, r"'min_wins' is None; give a number from 0"),
        ({"normalise": "no"}, r"'normalise' is 'no'; give true or false"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(given: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=f"router 'retrieval'.*{message}"):
        PilotsLearner(**given)
