from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import ConfigError
from composer.outcomes import OutcomeTable, RecordedExpert, RecordedQuery
from routers.calibration import sigmoid
from routers.encoder import HashingEncoder
from routers.learning import Batch, Training, make_training
from routers.neighbours.learner import NeighboursLearner
from routers.neighbours.model import NeighboursModel

if TYPE_CHECKING:
    from composer.types import Evidence, Float32Array

NAN = math.nan
SEEDS = st.integers(0, 2**32 - 1)
TASKS = {
    "maths": (
        "Solve the equation {} for x",
        "2x + {n} = {n}7",
        "x - {n} = 4",
        "5x = {n}0",
        "x = 1",
    ),
    "law": ("Is a contract of {} binding?", "sale no. {n}", "a minor", "rent", "{n} witnesses"),
    "food": ("How do I cook {}?", "{n} eggs", "rice with {n} spices", "a pie", "soup"),
}
ASKED = ["Solve the equation 9x = 81 for x", "Is a contract of work binding?", "How do I cook it?"]


def make_lesson(
    prompts: Sequence[str],
    score: Sequence[Sequence[float]],
    experts: Sequence[str],
    categories: Sequence[str] = (),
) -> Training:
    """What experts scored on some prompts, of one category unless they have their own."""
    queries = [
        RecordedQuery(f"q{row:03}", prompt, "train", categories[row] if categories else None)
        for row, prompt in enumerate(prompts)
    ]
    scores = np.array(score, np.float32).reshape(len(queries), len(experts))
    table = OutcomeTable("made", tuple(queries), tuple(map(RecordedExpert, experts)), scores)
    embedded = HashingEncoder().encode(prompts)
    return make_training(table, embedded, embedded)


@pytest.fixture(scope="module")
def topics() -> Training:
    """Three specialists, each good at the tasks of its own topic and now and then at others."""
    rng = np.random.default_rng(0)
    prompts: list[str] = []
    scores: list[list[float]] = []
    for topic, (frame, *details) in TASKS.items():
        for n, detail in product(range(4), details):
            prompts.append(frame.format(detail.format(n=n)))
            scores.append([float(rng.random() < (0.9 if name == topic else 0.3)) for name in TASKS])
    categories = [topic for topic in TASKS for _ in range(16)]
    return make_lesson(prompts, scores, list(TASKS), categories)


def fit(training: Training, **settings: Any) -> NeighboursModel:
    model = NeighboursLearner(**settings).fit(training).model
    assert isinstance(model, NeighboursModel)
    return model


def batch_of(*texts: str) -> Batch:
    nothing = (None,) * len(texts)
    embedded = HashingEncoder().encode(texts)
    return Batch(texts, texts, embedded, embedded, nothing, nothing)


def qualities(model: NeighboursModel, *texts: str) -> Float32Array:
    """What the raw scores, which are logits, are the logits of."""
    raw = model.predict(batch_of(*texts))
    return sigmoid(raw.astype(np.float64)).astype(np.float32)


def why(model: NeighboursModel, text: str, column: int = 0) -> Evidence:
    return model.why(batch_of(text), 0, column)


@pytest.mark.parametrize("targets", ["scores", "successes"])
def test_the_expert_of_the_querys_topic_comes_first(topics: Training, targets: str):
    model = fit(topics, targets=targets)

    np.testing.assert_array_equal(qualities(model, *ASKED).argmax(axis=1), [0, 1, 2])


def random_lesson(seed: int, n: int = 12, m: int = 4) -> Training:
    """Prompts of few words, so that some are the same and many alike, and scores with gaps."""
    rng = np.random.default_rng(seed)
    words = ["sort", "list", "contract", "soup", "数学", "rent"]
    prompts = [" ".join(rng.choice(words, rng.integers(1, 4))) for _ in range(n)]
    score = rng.choice([NAN, 0.0, 0.5, 1.0], (n, m))
    score[rng.integers(n)] = 1
    return make_lesson(prompts, score.tolist(), "abcdefgh"[:m], rng.choice([*"xyz"], n).tolist())


def test_rows_of_one_prompt_share_its_place():
    lesson = make_lesson(["sort", "soup", "sort", "sort"], [[1], [1], [0], [0]], "a")

    quality = qualities(fit(lesson, k=1, shrinkage=0), "sort", "soup")

    np.testing.assert_allclose(quality[:, 0], [1 / 3, 0.999], atol=1e-5)


def test_an_unknown_score_is_not_a_wrong_one():
    lesson = make_lesson(["sort a", "sort b", "sort c"], [[1, 1], [NAN, 0], [1, 1]], "ab")

    quality = qualities(fit(lesson, k=3, shrinkage=0, temperature=100), "sort")

    np.testing.assert_allclose(quality, [[1, 2 / 3]], atol=1e-2)


@pytest.mark.parametrize("shrinkage", [0, 5])
def test_an_expert_never_asked_near_the_query_keeps_its_overall_mean(shrinkage: float):
    prompts = ["sort a list", "sort the list", "boil the soup", "boil a soup", "boil an egg"]
    score = [[1, NAN], [1, NAN], [0, 1], [0, 0], [0, 0]]
    lesson = make_lesson(prompts, score, "ab", "xxyyz")

    model = fit(lesson, k=2, shrinkage=shrinkage, temperature=100)

    assert qualities(model, "sort the lists")[0, 1] == pytest.approx(0.25)
    assert why(model, "sort the lists", 1).reason == (
        "none of 2 neighbours tells of 'b'; its overall mean 0.25"
    )


@settings(max_examples=20)
@given(SEEDS)
def test_targets_of_successes_are_shares_averaged_over_neighbours_with_a_success(seed: int):
    lesson = random_lesson(seed)
    k, temperature = 3, 0.2
    texts = ["sort the list", "soup"]
    model = fit(lesson, targets="successes", k=k, temperature=temperature, shrinkage=0)

    found = qualities(model, *texts)

    solved = np.nansum(lesson.score, axis=1) > 0
    recorded = lesson.batch.embeddings[solved]
    shares = lesson.score[solved] / np.nansum(lesson.score[solved], axis=1, keepdims=True)
    for text, quality in zip(texts, found, strict=True):
        cosines = recorded @ HashingEncoder().encode([text])[0]
        kth = np.sort(cosines)[::-1][min(k, len(shares)) - 1]
        nearer, tied = cosines > kth + 1e-6, np.abs(cosines - kth) <= 1e-6
        weights = np.exp((cosines - cosines.max()) / temperature)
        weights *= nearer + tied * (min(k, len(shares)) - nearer.sum()) / tied.sum()
        for column, predicted in enumerate(quality):
            known = [i for i in range(len(shares)) if weights[i] and shares[i][column] >= 0]
            if known:
                total = math.fsum(weights[i] * shares[i][column] for i in known)
                expected = np.clip(total / math.fsum(weights[i] for i in known), 0.001, 0.999)
                assert predicted == pytest.approx(expected, abs=1e-5)


def test_with_targets_of_successes_a_query_that_few_solved_says_more():
    lesson = make_lesson(["sort", "sort"], [[1, 1], [1, 0]], "ab")

    quality = qualities(fit(lesson, targets="successes", k=2, shrinkage=0), "sort")

    np.testing.assert_allclose(quality, [[0.75, 0.25]], atol=1e-6)


def test_queries_of_many_batches_are_scored_as_they_are_alone():
    n, m = 300, 60
    prompts = [f"{row} {'abc'[row % 3] * (row % 7)}" for row in range(n)]
    score = np.random.default_rng(0).random((n, m)).tolist()
    lesson = make_lesson(prompts, score, [f"e{column}" for column in range(m)])
    model = fit(lesson, k=n, temperature=0.1, shrinkage=1)

    together = qualities(model, *prompts)

    alone = np.concatenate([qualities(model, prompt) for prompt in prompts[::50]])
    np.testing.assert_allclose(together[::50], alone, atol=1e-5)


def test_given_settings_are_used_as_given(topics: Training):
    kernel: dict[str, Any] = {"k": 3, "temperature": 0.25, "shrinkage": 0}
    given: dict[str, Any] = {**kernel, "category_bonus": 0.5, "targets": "successes"}

    assert NeighboursLearner(**given).given == given
    assert fit(topics, **given).settings == given


def test_settings_left_open_are_chosen_on_the_training(topics: Training):
    noise = np.random.default_rng(0).random(topics.score.shape).astype(np.float32)

    chosen = fit(topics, k=3).settings

    assert chosen["k"] == 3
    assert chosen["temperature"] > 0
    assert chosen["shrinkage"] > 0
    assert fit(replace(topics, score=noise), k=3).settings != chosen


@pytest.mark.parametrize(
    ("setting", "value", "remedy"),
    [
        ("k", 0, "give a whole number from 1, or leave it out"),
        ("k", 2.5, "give a whole number from 1, or leave it out"),
        ("temperature", 0, "give a number from 1e-06, or leave it out"),
        ("temperature", "1e-3", "give a number from 1e-06, or leave it out"),
        ("shrinkage", -1, "give a number from 0, or leave it out"),
    ],
)
def test_a_setting_out_of_its_range_is_refused(setting: str, value: Any, remedy: str):
    with pytest.raises(ConfigError) as error:
        NeighboursLearner(**{setting: value})

    assert str(error.value) == f"router 'neighbours': {setting!r} is {value!r}; {remedy}"


def test_unknown_targets_are_answered_with_the_nearest_ones():
    with pytest.raises(ConfigError) as error:
        NeighboursLearner(targets="sucesses")  # pyright: ignore[reportArgumentType]

    assert str(error.value) == (
        "router 'neighbours' has no targets 'sucesses'; "
        "did you mean 'successes'? choose from ['scores', 'successes']"
    )


def test_evidence_names_the_nearest_recorded_query_and_how_the_expert_did_there():
    lesson = make_lesson(["sort the list", "boil the soup"], [[1, 0.25], [0, 1]], "ab")

    evidence = why(fit(lesson, k=2, temperature=0.1, shrinkage=1), "sort the list", 1)

    assert evidence.reason == (
        "scored 0.25 on the nearest recorded query 'sort the list', cosine 1.00, of 2 that count"
    )
    assert evidence.details == {
        "kernel": {"k": 2, "temperature": 0.1, "shrinkage": 1},
        "counting": 2,
    }


def test_evidence_passes_over_neighbours_on_which_the_expert_is_unknown():
    lesson = make_lesson(["sort the list", "sort a list"], [[1, NAN], [1, 0.5]], "ab")

    evidence = why(fit(lesson, k=2), "sort the list", 1)

    assert evidence.reason.startswith("scored 0.50 on the nearest recorded query 'sort a list', ")


def test_evidence_says_when_scores_are_shares_of_the_successes():
    lesson = make_lesson(["sort the list", "boil the soup"], [[1, 0.25], [1, 0]], "ab")

    evidence = why(fit(lesson, targets="successes", k=2), "sort the list", 1)

    assert evidence.reason.startswith("had 0.20 of the successes on the nearest recorded query ")


def test_long_prompts_are_cut_whatever_the_language():
    lesson = make_lesson(["数" * 500, "two\nlines\u2028" + "x " * 500], [[1], [0]], "a")
    model = fit(lesson, k=1)

    assert f"'{'数' * 57}...'" in why(model, "数数").reason
    assert "'two lines x x " in why(model, "x x").reason


def test_an_expert_that_has_no_share_of_any_success_is_refused_by_name():
    lesson = make_lesson(["sort", "soup", "rent"], [[1, NAN], [0, 0], [1, NAN]], ["ada", "bo"])

    with pytest.raises(ConfigError, match="'bo' was asked nothing that any expert got right"):
        fit(lesson, targets="successes")


def test_recorded_queries_of_the_querys_category_are_nearer_to_it():
    prompts = ["sort this", "sort that", "sort these", "sort those"]
    score = [[1, 0], [1, 0], [0, 1], [0, 1]]
    lesson = make_lesson(prompts, score, ["ada", "bo"], ["maths", "maths", "law", "law"])
    model = fit(lesson, k=2, temperature=0.1, shrinkage=0.1, category_bonus=0.5)

    batch = lesson.batch.rows(np.array([0, 0]))
    asked = replace(batch, categories=("maths", "law"), embeddings=batch.embeddings)
    maths, law = model.predict(asked)

    assert maths[0] > maths[1]
    assert law[0] < law[1]


def test_without_a_known_category_the_bonus_changes_nothing(topics: Training):
    hidden = topics.batch.without_categories()
    kernel: dict[str, Any] = {"k": 5, "temperature": 0.2, "shrinkage": 1}

    with_bonus = fit(topics, **kernel, category_bonus=0.3).predict(hidden)

    np.testing.assert_allclose(
        with_bonus, fit(topics, **kernel, category_bonus=0).predict(hidden), atol=1e-6
    )


def test_categories_that_tell_experts_apart_get_a_bonus():
    rng = np.random.default_rng(0)
    categories = ["maths", "law"] * 40
    prompts = [" ".join(rng.choice(["sort", "list", "rent", "soup"], 3)) for _ in categories]
    score = [[1, 0] if name == "maths" else [0, 1] for name in categories]

    assert fit(make_lesson(prompts, score, ["ada", "bo"], categories)).category_bonus > 0
