from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.errors import ConfigError
from composer.outcomes import RecordedExpert
from composer.types import Message, Query
from routers.clusters.choice import Grid, shrunk_means
from routers.clusters.learner import ClustersLearner
from routers.clusters.model import ClustersModel, cluster_values, memberships
from routers.kmeans import AXES, cluster, cluster_again
from routers.learning import Batch, Training

NAN = math.nan
MakeTraining = Callable[..., Training]
EAST, NORTH, WEST, SOUTH = (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)
MODES = ("means", "ranks", "pro")


def batch(*points: tuple[float, float], categories: Sequence[str | None] | None = None) -> Batch:
    at = np.array(points, np.float32)
    n = len(at)
    texts = tuple(f"q{i}" for i in range(n))
    return Batch(texts, texts, at, at, tuple(categories or [None] * n), (None,) * n)


def training(
    points: Sequence[tuple[float, float]],
    score: Sequence[Sequence[float]],
    *,
    cost_usd: Sequence[Sequence[float]] | None = None,
    categories: Sequence[str | None] | None = None,
) -> Training:
    """Queries on a plane; all in one fold."""
    return Training(
        batch(*points, categories=categories),
        tuple(RecordedExpert(name) for name in "abcdefgh"[: len(score[0])]),
        np.array(score, np.float32),
        np.zeros(len(points), np.int64),
        None if cost_usd is None else np.array(cost_usd, np.float32),
    )


def two_places(**other: Any) -> Training:
    """East and north, three queries each: a is right in the east, and b in the north."""
    score = [[1, 0], [1, 0], [1, 1], [0, 1], [0, 1], [0, 1]]
    return training([EAST] * 3 + [NORTH] * 3, score, **other)


def learn(recorded: Training, **given: Any) -> ClustersModel:
    one = {"n_clusters": 2, "top_k": 1, "beta": 0.0, "shrinkage": 0.0, "n_clusterings": 1}
    settings: dict[str, Any] = {**one, **given}
    model = ClustersLearner(**settings).fit(recorded).model
    assert isinstance(model, ClustersModel)
    return model


def priced(recorded: Training) -> Training:
    """The same, the experts' costs 1, 2, 3, ... USD."""
    columns = np.arange(1, recorded.score.shape[1] + 1, dtype=np.float32)
    return replace(recorded, cost_usd=np.tile(columns, (len(recorded.batch), 1)))


def values_of(means: Sequence[float], mode: Any, costs: Sequence[float] | None = None) -> Any:
    """What the experts are worth in one cluster."""
    row = None if costs is None else np.array([costs], np.float64)
    return cluster_values(np.array([means], np.float64), row, mode, 0.6)[0]


def mean_of_choices(recorded: Training, raw: Any) -> float:
    return float(recorded.score[np.arange(len(raw)), raw.argmax(axis=1)].mean())


@pytest.mark.parametrize("mode", ["means", "ranks"])
def test_held_out_queries_go_to_the_expert_of_their_subject(make_lesson: MakeTraining, mode: Any):
    recorded = make_lesson(240)

    lesson = ClustersLearner(mode=mode).fit(recorded)

    best_single = recorded.score.mean(axis=0).max()
    assert mean_of_choices(recorded, lesson.held_out) > best_single + 0.2
    np.testing.assert_array_equal(lesson.held_out, lesson.held_out_known)


def test_held_out_scores_do_not_know_of_the_outcomes_held_out(make_lesson: MakeTraining):
    recorded = make_lesson()
    held = recorded.folds == recorded.folds[0]
    other = replace(recorded, score=np.where(held[:, None], 0, recorded.score))
    given: dict[str, Any] = {"n_clusters": 4, "top_k": 2, "beta": 3.0, "shrinkage": 1.0}

    first, second = (ClustersLearner(**given).fit(t).held_out for t in (recorded, other))

    np.testing.assert_array_equal(first[held], second[held])
    assert not np.array_equal(first, second)


def test_an_expert_is_worth_its_mean_in_the_nearest_cluster():
    raw = learn(two_places()).predict(batch(EAST, NORTH))

    np.testing.assert_allclose(raw, [[1, 1 / 3], [0, 1]], rtol=1e-6)


def test_means_are_shrunk_towards_the_overall_mean_and_unknown_outcomes_do_not_count():
    recorded = training([EAST, EAST, NORTH, NORTH], [[1, NAN], [NAN, NAN], [0, 1], [0, 0]])

    model = learn(recorded, shrinkage=2.0)

    np.testing.assert_allclose(
        model.predict(batch(EAST, NORTH)),
        [[(1 + 2 / 3) / 3, 0.5], [(2 / 3) / 4, (1 + 2 * 0.5) / 4]],
        rtol=1e-6,
    )


@given(
    st.integers(1, 12).flatmap(
        lambda n: st.tuples(
            st.lists(
                st.lists(st.sampled_from([0.0, 0.3, 1.0, NAN]), min_size=2, max_size=2),
                min_size=n,
                max_size=n,
            ),
            st.lists(st.integers(0, 2), min_size=n, max_size=n),
        )
    ),
    st.lists(st.sampled_from([0.2, 0.9, NAN]), min_size=2, max_size=2),
    st.sampled_from([0.0, 0.5, 10.0]),
)
def test_shrunk_means_are_those_of_a_plain_loop(
    rows: tuple[list[list[float]], list[int]], prior: list[float], shrinkage: float
):
    values, labels = rows
    expected = [[NAN] * 2 for _ in range(4)]
    for place, column in product(range(4), range(2)):
        known = [
            row[column]
            for row, label in zip(values, labels, strict=True)
            if label == place and not math.isnan(row[column])
        ]
        n = len(known) + shrinkage
        expected[place][column] = (
            (sum(known) + shrinkage * prior[column]) / n if n else prior[column]
        )

    means = shrunk_means(
        np.array(values, np.float32), np.array(labels), 3, np.array(prior, np.float32), shrinkage
    )

    np.testing.assert_allclose(means, expected, rtol=1e-5)


@given(st.lists(st.floats(0, 2), min_size=1, max_size=6), st.integers(1, 8), st.floats(0, 500))
def test_shares_of_the_nearest_clusters_sum_to_one_and_fall_with_the_distance(
    distances: list[float], top_k: int, beta: float
):
    shares = memberships(np.array([distances]), top_k, beta)[0]

    assert shares.sum() == pytest.approx(1)
    order = np.argsort(distances, kind="stable")
    assert (np.diff(shares[order]) <= 1e-6).all()
    assert shares[order[0]] > 0
    farther = np.array(distances) > sorted(distances)[min(top_k, len(distances)) - 1] + 1e-5
    assert (shares[farther] == 0).all()


def test_nearer_clusters_count_as_beta_says():
    shares = memberships(np.array([[0.2, 0.1, 0.4, 0.9]]), 3, 10.0)[0]

    assert shares[1] / shares[0] == pytest.approx(math.e)
    assert shares[1] / shares[2] == pytest.approx(math.exp(3))
    assert shares[3] == 0


def test_clusters_as_near_as_the_last_that_counts_count_too():
    shares = memberships(np.array([[0.5, 0.1, 0.5 + 1e-9]]), 2, 0.0)[0]

    np.testing.assert_allclose(shares, 1 / 3)


def test_ranks_start_at_zero_and_equal_experts_share_theirs():
    np.testing.assert_allclose(
        values_of([0.2, 0.9, 0.5, NAN, 0.5], "ranks"), [1 / 3.1, 1 / 0.1, 1 / 1.6, NAN, 1 / 1.6]
    )


def test_pro_ranks_by_scores_and_costs_within_the_cluster():
    # Worth: 0.6 * [0, 1, 0.5] + 0.4 * [1 - 0, 1 - 1, 1 - 0.1] = [0.4, 0.6, 0.66]
    np.testing.assert_allclose(
        values_of([0.2, 0.8, 0.5], "pro", [0, 5.0, 0.5]), [1 / 3, 1 / 2, 1 / 1]
    )


@pytest.mark.parametrize(
    ("means", "costs", "values"),
    [
        ([0.4, 0.4], [1.0, 2.0], [1, 1 / 2]),
        ([0.4, 0.6], [0.0, 0.0], [1 / 2, 1]),
        ([0.4, 0.6, 0.9], [1.0, 1.0, NAN], [1 / 2, 1, NAN]),
    ],
)
def test_pro_copes_with_equal_scores_no_costs_and_unknown_ones(
    means: list[float], costs: list[float], values: list[float]
):
    np.testing.assert_allclose(values_of(means, "pro", costs), values)


def test_pro_prefers_cheap_experts_as_its_weight_says(make_lesson: MakeTraining):
    recorded = priced(make_lesson())

    thrifty, able = (
        ClustersLearner(mode="pro", performance_weight=weight).fit(recorded).held_out
        for weight in (0.0, 1.0)
    )

    assert (thrifty.argmax(axis=1) == 0).all()
    assert mean_of_choices(recorded, able) > mean_of_choices(recorded, thrifty) + 0.2


@pytest.mark.parametrize(
    ("cost_usd", "lacking"), [(None, r"\['a', 'b'\]"), ([[1, NAN]] * 6, r"\['b'\]")]
)
def test_pro_is_refused_where_an_expert_has_no_cost(cost_usd: Any, lacking: str):
    with pytest.raises(ConfigError, match=rf"no cost of {lacking} .*choose mode 'means'"):
        learn(two_places(cost_usd=cost_usd), mode="pro")


def test_a_query_unlike_all_recorded_ones_is_given_what_holds_overall():
    guarded, bold = (learn(two_places(), guard=guard) for guard in (1.0, None))
    overall = two_places().prior

    np.testing.assert_allclose(guarded.predict(batch(WEST, SOUTH)), [overall] * 2, rtol=1e-6)
    np.testing.assert_allclose(guarded.predict(batch(EAST)), bold.predict(batch(EAST)))
    assert not np.allclose(bold.predict(batch(SOUTH)), overall)


def test_the_guard_lets_pass_as_many_recorded_queries_as_it_says(make_lesson: MakeTraining):
    recorded = make_lesson(200)
    model = learn(recorded, n_clusters=4, guard=0.9)

    raw = model.predict(recorded.batch)

    is_overall = np.isclose(raw, recorded.prior).all(axis=1)
    assert 15 <= is_overall.sum() <= 20


@pytest.mark.parametrize("mode", MODES)
def test_removing_an_expert_leaves_the_others_scores(make_lesson: MakeTraining, mode: Any):
    recorded = priced(make_lesson(unknown=0.2))
    model = ClustersLearner(mode=mode).fit(recorded).model

    left = model.without(1).predict(recorded.batch)

    np.testing.assert_allclose(left, model.predict(recorded.batch)[:, [0, 2]], rtol=1e-6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", [[2, 0, 1], [1, 0, 2]])
def test_the_order_of_the_experts_does_not_matter(
    make_lesson: MakeTraining, mode: Any, order: list[int]
):
    recorded = priced(make_lesson(60))
    # Two experts that are equal everywhere: the order must not part them either.
    recorded.score[:, 1] = recorded.score[:, 0]
    assert recorded.cost_usd is not None
    recorded.cost_usd[:, 1] = recorded.cost_usd[:, 0]
    turned = replace(
        recorded,
        score=recorded.score[:, order],
        cost_usd=recorded.cost_usd[:, order],
        experts=tuple(recorded.experts[column] for column in order),
    )

    first, second = (ClustersLearner(mode=mode).fit(t).held_out for t in (recorded, turned))

    np.testing.assert_allclose(first[:, order], second, rtol=1e-5)
    np.testing.assert_allclose(first[:, 0], first[:, 1], rtol=1e-5)


def test_an_expert_of_which_nothing_is_known_is_unknown(make_lesson: MakeTraining):
    recorded = make_lesson()
    recorded.score[recorded.folds != 0, 1] = NAN

    held_out = ClustersLearner().fit(recorded).held_out

    np.testing.assert_array_equal(np.isnan(held_out[:, 1]), recorded.folds == 0)
    assert not np.isnan(held_out[:, [0, 2]]).any()


def test_a_query_scores_alone_as_it_does_among_others(make_lesson: MakeTraining):
    recorded = make_lesson()
    model = ClustersLearner().fit(recorded).model

    alone = np.concatenate([model.predict(recorded.batch.rows(np.array([i]))) for i in range(9)])

    np.testing.assert_allclose(alone, model.predict(recorded.batch)[:9], atol=1e-5)


def test_settings_left_open_are_those_of_the_least_held_out_error(make_lesson: MakeTraining):
    telling = make_lesson(240)
    rng = np.random.default_rng(0)
    noise = replace(telling, score=rng.integers(0, 2, telling.score.shape).astype(np.float32))

    of_telling, of_noise = (ClustersLearner().fit(t).model.settings for t in (telling, noise))

    assert of_telling["shrinkage"] == min(Grid().shrinkage)
    assert of_noise["shrinkage"] == max(Grid().shrinkage)


def test_settings_that_are_given_are_kept(make_lesson: MakeTraining):
    given = {"n_clusters": 5, "top_k": 2, "beta": 7.0, "shrinkage": 1.5}
    rest = {"mode": "ranks", "performance_weight": 0.2, "n_clusterings": 2, "guard": None}
    learner = ClustersLearner(**given, **rest)  # pyright: ignore[reportArgumentType]

    model = learner.fit(make_lesson()).model

    assert learner.given == model.settings == {**given, **rest}
    assert isinstance(model, ClustersModel)
    assert len(model.centres) == 10
    assert ClustersLearner().given["n_clusters"] is None


@pytest.mark.parametrize(
    ("n", "sizes"), [(1, (8,)), (64, (8,)), (300, (8, 16, 32)), (8000, (8, 16, 32, 64))]
)
def test_clusters_are_not_tried_where_they_would_be_too_small(n: int, sizes: tuple[int, ...]):
    assert Grid().sizes(n) == sizes


def test_more_clusters_than_distinct_queries_are_as_many_as_those():
    model = learn(two_places(), n_clusters=50)

    assert sorted(model.centres.tolist()) == [[0, 1], [1, 0]]
    assert model.sizes.tolist() == [3, 3]


def test_what_several_clusterings_predict_is_the_mean_of_what_each_does(make_lesson: MakeTraining):
    recorded = make_lesson(240)
    model = learn(recorded, n_clusters=5, top_k=2, beta=9.0, shrinkage=3.0, n_clusterings=3)
    overall = [len(model.centres)]

    raw = [
        replace(
            model,
            bounds=(0, end - start),
            reach=(reach,),
            centres=model.centres[start:end],
            values=model.values[[*range(start, end), *overall]],
        ).predict(recorded.batch)
        for start, end, reach in zip(model.bounds, model.bounds[1:], model.reach, strict=False)
    ]

    assert not np.array_equal(raw[0], raw[1])
    np.testing.assert_allclose(model.predict(recorded.batch), np.mean(raw, axis=0), atol=1e-6)


def test_a_query_that_is_far_from_some_clusterings_says_what_holds_overall_in_part(
    make_lesson: MakeTraining,
):
    recorded = make_lesson(240)
    model = learn(recorded, n_clusters=5, n_clusterings=2)
    near, far = model.reach[0], -1.0

    why = replace(model, reach=(near, far)).why(recorded.batch, 0, 0)

    assert "overall" in why.details["parts"]
    assert "which counts 50%" in why.reason
    assert sum(why.details["shares"].values()) == pytest.approx(1)


def test_clustering_again_begins_with_the_first_and_is_always_the_same(make_lesson: MakeTraining):
    points = make_lesson(240).batch.embeddings

    first, *others = cluster_again(points, 6, 3)

    np.testing.assert_array_equal(first.labels, cluster(points, [6])[6].labels)
    assert not np.array_equal(first.labels, others[0].labels)
    for one, again in zip(others, cluster_again(points, 6, 3)[1:], strict=True):
        np.testing.assert_array_equal(one.labels, again.labels)


def test_rows_of_one_fold_leave_nothing_held_out():
    assert np.isnan(ClustersLearner().fit(two_places()).held_out).all()


@pytest.mark.parametrize("d", [8, AXES + 40])
def test_queries_that_lie_together_are_one_cluster_and_its_centre_is_their_mean(d: int):
    rng = np.random.default_rng(0)
    places = np.arange(240) % 3
    points = (np.eye(3, d)[places] + rng.normal(0, 0.01, (240, d))).astype(np.float32)

    centres, labels = cluster(points, [3])[3]

    assert {len(set(labels[places == place])) for place in range(3)} == {1}
    for place in range(3):
        mean = points[places == place].mean(axis=0)
        np.testing.assert_allclose(centres[labels[place]], mean, atol=1e-5)


def test_clusters_do_not_depend_on_what_else_is_asked_for(make_lesson: MakeTraining):
    points = make_lesson().batch.embeddings

    alone, among = cluster(points, [4])[4], cluster(points, [2, 4, 8])[4]

    np.testing.assert_array_equal(alone.labels, among.labels)


@pytest.mark.parametrize("mode", MODES)
def test_a_saved_model_scores_alike(make_lesson: MakeTraining, mode: Any):
    recorded = priced(make_lesson(unknown=0.2))
    learner = ClustersLearner(mode=mode)
    model = learner.fit(recorded).model
    meta, arrays = model.state()

    restored = learner.restore(json.loads(json.dumps(meta, allow_nan=False)), arrays)

    np.testing.assert_array_equal(restored.predict(recorded.batch), model.predict(recorded.batch))
    assert restored.settings == model.settings
    with pytest.raises(KeyError):
        learner.restore(meta, {})


def test_evidence_names_the_nearest_cluster_by_its_most_frequent_category():
    recorded = two_places(categories=["sums", "law", "sums", None, None, "law"])
    model = learn(recorded)

    east, north = (model.why(batch(EAST, NORTH), row, 1) for row in (0, 1))

    assert "mean score 0.33 in cluster" in east.reason
    assert east.reason.endswith(
        f"(sums) of 3 recorded queries, which counts 100%; {recorded.prior[1]:.2f} overall"
    )
    assert "(" not in north.reason


@pytest.mark.parametrize("mode", MODES)
def test_the_parts_in_the_evidence_sum_to_the_raw_score(make_lesson: MakeTraining, mode: Any):
    recorded = priced(make_lesson())
    model = learn(recorded, n_clusters=6, top_k=3, beta=5.0, mode=mode)
    raw = model.predict(recorded.batch)

    for row, column in product(range(5), range(3)):
        why = model.why(recorded.batch, row, column)
        assert sum(why.details["parts"].values()) == pytest.approx(raw[row, column], rel=1e-5)


def test_evidence_says_when_a_query_is_unlike_all_or_nothing_is_known():
    recorded = training([EAST, NORTH], [[1, NAN], [0, NAN]])
    model = learn(recorded)

    far, unknown = model.why(batch(WEST), 0, 0), model.why(batch(EAST), 0, 1)

    assert far.reason == "unlike all recorded queries; mean score 0.50 overall"
    assert far.details == {"parts": {"overall": 0.5}}
    assert unknown.reason == "no outcome of it is known"


def test_a_query_needs_no_annotation():
    query = Query("q", (Message("user", "Why?"),))

    assert ClustersLearner().annotate(query, ["a"]) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_clusters": 0}, "'n_clusters' is 0; give a whole number from 1, or leave it out"),
        ({"top_k": 1.5}, "'top_k' is 1.5; give a whole number from 1, or leave it out"),
        ({"beta": -1}, "'beta' is -1; give a number from 0, or leave it out"),
        ({"shrinkage": "5"}, "'shrinkage' is '5'; give a number from 0, or leave it out"),
        ({"mode": "mean"}, "has no mode 'mean'; did you mean 'means'"),
        ({"performance_weight": 2}, "'performance_weight' is 2; give a number from 0 to 1"),
        ({"guard": 1.1}, "'guard' is 1.1; give a number from 0 to 1, or leave it out"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(given: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=rf"router 'clusters'.*{message}"):
        ClustersLearner(**given)
