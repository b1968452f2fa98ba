"""What every algorithm that learns from recorded outcomes promises the shell around it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import pytest

from composer.errors import ConfigError
from composer.types import Annotation, Evidence, Message, Query
from routers import LEARNERS, make_learner
from routers.encoder import HashingEncoder
from routers.learning import Learner, Lesson, Model, Training

if TYPE_CHECKING:
    from composer.types import Float32Array

MakeTraining = Callable[..., Training]

NAN = math.nan
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "stacked": {"members": ["neighbours", "category"]},
    "thoughts": {"steps": 100},
}
"""What a learner needs beside its defaults, to be quick here."""
DEAF_TO_SCORES = {"description", "likelihood"}
"""Their raw scores are those of texts; outcomes only set how sharp they are."""
SHARED_OUT = {"likelihood"}
"""Raw scores are logs of shares: what one expert no longer has, the others get, all the same."""
SCALED_ON_ALL_ROWS = {"learned", "retrieval", "stacked"}
"""A number or two of theirs, no settings, are fitted to the held-out scores of all rows."""

LESSONS: dict[str, Lesson] = {}
every_learner = pytest.mark.parametrize("name", sorted(LEARNERS))
every_learner_of_scores = pytest.mark.parametrize("name", sorted(LEARNERS.keys() - DEAF_TO_SCORES))
every_learner_by_fold = pytest.mark.parametrize(
    "name", sorted(LEARNERS.keys() - SCALED_ON_ALL_ROWS)
)


def make(name: str, settings: Mapping[str, Any] | None = None) -> Learner:
    chosen = SETTINGS.get(name, {}) if settings is None else settings
    return make_learner(name, chosen, encoder=HashingEncoder())


def annotated(training: Training) -> Training:
    """With what experts might have said of each query, for learners that ask them."""
    batch = training.batch
    annotations = [
        Annotation(
            {
                "skills": text.rstrip(".").split()[1:3],
                "task": f"A question about {category}.",
                "nats_per_byte": {
                    name: 1 + crc32(f"{name} {text}".encode()) % 100 / 100
                    for name in training.names
                },
                "failures": {},
            }
        )
        for text, category in zip(batch.texts, batch.categories, strict=True)
    ]
    return replace(training, batch=replace(batch, annotations=tuple(annotations)))


@pytest.fixture
def training(make_lesson: MakeTraining) -> Training:
    """Three subjects, an expert good at each, and a tenth of the outcomes not known."""
    return annotated(make_lesson(60, unknown=0.1))


@pytest.fixture
def taught(name: str, training: Training) -> Lesson:
    """What a learner makes of that training; tests share it, and only look at it."""
    if name not in LESSONS:
        LESSONS[name] = make(name).fit(training)
    return LESSONS[name]


def pinned(name: str, model: Model) -> Learner:
    """The learner that chooses nothing: all of its settings are those in use."""
    return make(name, json.loads(json.dumps(dict(model.settings), allow_nan=False)))


def with_score(training: Training, score: Float32Array) -> Training:
    return replace(training, score=score.astype(np.float32))


def columns(training: Training, order: Sequence[int]) -> Training:
    """The training with its experts in another order, or some of them."""
    return replace(
        training,
        experts=tuple(training.experts[column] for column in order),
        score=training.score[:, list(order)],
    )


def moved(before: Float32Array, after: Float32Array) -> float:
    """How far an expert's raw score has moved, beside the mean of all, at most."""
    return float(np.nanmax(np.abs(after - np.nanmean(after) - before + np.nanmean(before))))


def assert_close(found: Float32Array, expected: Float32Array, *, tolerance: float = 1e-4) -> None:
    """Equal but for the rounding of float32, on the scale that the scores have."""
    known = expected[~np.isnan(expected)]
    scale = max(1.0, float(np.abs(known).max())) if len(known) else 1.0
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)


@every_learner
def test_a_learner_goes_by_its_name_in_the_table(name: str):
    assert make(name).name == name


@every_learner
def test_raw_scores_are_finite_or_unknown_for_every_row_and_expert(
    name: str, training: Training, taught: Lesson
):
    lesson = taught

    for raw in (lesson.held_out, lesson.held_out_known, lesson.model.predict(training.batch)):
        assert raw.shape == training.score.shape
        assert raw.dtype == np.float32
        assert not np.isinf(raw).any()
        assert not np.isnan(raw).all(axis=1).any()


@every_learner
def test_a_query_whose_category_is_not_known_is_scored(
    name: str, training: Training, taught: Lesson
):
    hidden = training.batch.without_categories()

    raw = taught.model.predict(hidden)

    assert not np.isnan(raw).all(axis=1).any()


@every_learner
def test_learning_twice_gives_the_same(name: str, training: Training, taught: Lesson):
    again = make(name).fit(training)

    assert again.model.settings == taught.model.settings
    np.testing.assert_array_equal(again.held_out, taught.held_out)
    np.testing.assert_array_equal(
        again.model.predict(training.batch), taught.model.predict(training.batch)
    )


@every_learner
def test_learning_leaves_the_training_as_it_was(name: str, training: Training):
    score, embeddings = training.score.copy(), training.batch.embeddings.copy()

    make(name).fit(training).model.predict(training.batch)

    np.testing.assert_array_equal(training.score, score)
    np.testing.assert_array_equal(training.batch.embeddings, embeddings)


@every_learner_by_fold
def test_the_held_out_scores_of_a_fold_do_not_depend_on_its_own_outcomes(
    name: str, training: Training, taught: Lesson
):
    learner = pinned(name, taught.model)
    held = training.folds == training.folds[0]
    turned = with_score(training, np.where(held[:, None], 1 - training.score, training.score))

    before, after = learner.fit(training), learner.fit(turned)

    assert_close(after.held_out[held], before.held_out[held])
    assert_close(after.held_out_known[held], before.held_out_known[held])


@every_learner
def test_a_rows_own_outcome_moves_its_held_out_score_far_less_than_one_that_learned_from_it(
    name: str, training: Training, taught: Lesson
):
    learner = pinned(name, taught.model)
    lesson = learner.fit(training)
    held_out, learned = 0.0, 0.0

    for row in (1, 2, 30):
        score = training.score.copy()
        score[row] = 1 - score[row]
        turned = learner.fit(with_score(training, score))
        held_out += moved(lesson.held_out[row], turned.held_out[row])
        batch = training.batch.rows(np.array([row]))
        learned += moved(lesson.model.predict(batch)[0], turned.model.predict(batch)[0])

    assert held_out <= 0.5 * learned + 1e-4


@every_learner
def test_held_out_scores_do_not_know_their_own_category_unless_told(
    name: str, training: Training, taught: Lesson
):
    learner = pinned(name, taught.model)
    categories = list(training.batch.categories)
    categories[30] = categories[31]
    other = replace(training, batch=replace(training.batch, categories=tuple(categories)))

    before, after = learner.fit(training), learner.fit(other)

    hidden = moved(before.held_out[30], after.held_out[30])
    told = moved(before.held_out_known[30], after.held_out_known[30])
    assert hidden <= 0.3 * told + 1e-4


@every_learner_of_scores
def test_what_is_held_out_is_learned_from_the_other_rows(
    name: str, training: Training, taught: Lesson
):
    learner = pinned(name, taught.model)
    held = training.folds == training.folds[0]
    turned = with_score(training, np.where(held[:, None], training.score, 1 - training.score))

    before, after = learner.fit(training), learner.fit(turned)

    assert np.nanmax(np.abs(after.held_out[held] - before.held_out[held])) > 1e-3


@every_learner_of_scores
def test_the_best_expert_of_a_subject_comes_first_more_often_than_by_chance(
    name: str, make_lesson: MakeTraining
):
    training = annotated(make_lesson(90))
    rows = np.arange(90)

    held_out = make(name).fit(training).held_out

    chosen = np.where(np.isnan(held_out), -np.inf, held_out).argmax(axis=1)
    assert (chosen == rows % 3).mean() > 0.5


@every_learner
def test_a_query_scores_alike_alone_and_in_a_batch(name: str, training: Training, taught: Lesson):
    model, batch = taught.model, training.batch
    numbers = np.array([7, 3, 3, 41])

    together = model.predict(batch)

    assert_close(model.predict(batch.rows(numbers)), together[numbers])
    assert_close(model.predict(batch.rows(np.array([5]))), together[5:6])


@every_learner
def test_the_order_of_the_experts_does_not_matter(name: str, training: Training, taught: Lesson):
    order = [2, 0, 1]

    mixed = make(name).fit(columns(training, order))

    assert_close(mixed.held_out, taught.held_out[:, order], tolerance=1e-3)
    assert_close(
        mixed.model.predict(training.batch),
        taught.model.predict(training.batch)[:, order],
        tolerance=1e-3,
    )


@every_learner
@pytest.mark.parametrize("column", [0, 1, 2])
def test_without_an_expert_the_others_score_as_before(
    name: str, training: Training, taught: Lesson, column: int
):
    model = taught.model
    before = model.predict(training.batch)

    after = model.without(column).predict(training.batch)

    expected = np.delete(before, column, axis=1)
    if name in SHARED_OUT:
        after, expected = after - after[:, :1], expected - expected[:, :1]
        assert_close(after, expected)
    else:
        np.testing.assert_array_equal(after, expected)
    np.testing.assert_array_equal(model.predict(training.batch), before)


@every_learner
def test_a_model_of_one_expert_is_left_when_the_others_are_gone(
    name: str, training: Training, taught: Lesson
):
    last = taught.model.without(0).without(0)

    assert last.predict(training.batch).shape == (len(training.batch), 1)
    assert last.why(training.batch, 0, 0).reason
    assert restored(make(name), last).predict(training.batch).shape == (len(training.batch), 1)


def restored(learner: Learner, model: Model) -> Model:
    """The model as it comes back from a file."""
    meta, arrays = model.state()
    return learner.restore(json.loads(json.dumps(meta, allow_nan=False)), arrays)


@every_learner
def test_a_restored_model_says_what_the_model_said(name: str, training: Training, taught: Lesson):
    model, batch = taught.model, training.batch

    again = restored(make(name), model)

    assert json.loads(json.dumps(dict(again.settings))) == dict(model.settings)
    np.testing.assert_array_equal(again.predict(batch), model.predict(batch))
    for column in range(len(training.names)):
        assert again.why(batch, 4, column) == model.why(batch, 4, column)
    np.testing.assert_array_equal(again.without(1).predict(batch), model.without(1).predict(batch))


@every_learner
def test_the_state_of_a_model_is_json_and_arrays_of_numbers(name: str, taught: Lesson):
    meta, arrays = taught.model.state()

    json.dumps(meta, allow_nan=False)
    assert all(array.dtype.kind in "fiub" for array in arrays.values())


@every_learner
def test_the_settings_given_are_json_and_make_the_same_learner(name: str):
    given = make(name).given

    assert make(name, json.loads(json.dumps(dict(given), allow_nan=False))).given == given
    assert dict(given) == {**given, **SETTINGS.get(name, {})}


@every_learner
def test_the_settings_in_use_are_json_values_of_the_settings_there_are(
    name: str, training: Training, taught: Lesson
):
    used = taught.model.settings

    same = pinned(name, taught.model).fit(training).model

    assert used.keys() == make(name).given.keys()
    assert dict(same.settings) == dict(used)
    assert_close(same.predict(training.batch), taught.model.predict(training.batch), tolerance=1e-2)


@every_learner
def test_a_setting_that_is_given_is_not_chosen_anew(name: str, taught: Lesson):
    learner, used = make(name), taught.model.settings

    assert {key: used[key] for key, value in learner.given.items() if value is not None} == {
        key: value for key, value in learner.given.items() if value is not None
    }


@every_learner
def test_an_expert_that_is_known_in_one_fold_only_breaks_nothing(name: str, training: Training):
    score = training.score.copy()
    score[training.folds != training.folds[0], 1] = NAN

    lesson = make(name).fit(with_score(training, score))

    for raw in (lesson.held_out, lesson.held_out_known, lesson.model.predict(training.batch)):
        assert not np.isinf(raw).any()
        assert not np.isnan(raw[:, [0, 2]]).any()


@every_learner
def test_few_outcomes_are_enough(name: str, make_lesson: MakeTraining):
    training = annotated(make_lesson(30, unknown=0.7))
    known = training.rows(np.asarray((~np.isnan(training.score)).any(axis=1)))

    lesson = make(name).fit(known)

    assert not np.isinf(lesson.held_out).any()
    assert lesson.model.predict(known.batch).shape == known.score.shape


@every_learner
def test_rows_of_one_fold_are_enough(name: str, training: Training):
    few = training.rows(training.folds == training.folds[0])

    lesson = make(name).fit(few)

    assert lesson.held_out.shape == lesson.held_out_known.shape == few.score.shape
    assert not np.isinf(lesson.model.predict(few.batch)).any()


@every_learner
def test_one_expert_is_enough(name: str, training: Training):
    alone = columns(training, [1])
    known = alone.rows(~np.isnan(alone.score[:, 0]))

    lesson = make(name).fit(known)

    assert not np.isinf(lesson.held_out).any()
    assert lesson.model.predict(known.batch).shape == (len(known.batch), 1)


@every_learner
@pytest.mark.parametrize("categories", [(None,), ("all",), (None, "all")])
def test_a_table_of_one_category_or_none_can_be_learned_from(
    name: str, training: Training, categories: tuple[str | None, ...]
):
    rows = range(len(training.batch))
    of_rows = tuple(categories[row % len(categories)] for row in rows)
    batch = replace(training.batch, categories=of_rows)

    lesson = make(name).fit(replace(training, batch=batch))

    assert not np.isnan(lesson.model.predict(batch)).all(axis=1).any()
    assert not np.isnan(lesson.model.predict(batch.without_categories())).all(axis=1).any()


@every_learner
def test_a_category_never_recorded_is_scored(name: str, training: Training, taught: Lesson):
    strange = replace(training.batch, categories=("astrology",) * len(training.batch))

    raw = taught.model.predict(strange)

    assert not np.isnan(raw).all(axis=1).any()
    assert taught.model.why(strange, 0, 0).reason


@every_learner_of_scores
def test_an_unknown_outcome_is_not_a_wrong_one(name: str, make_lesson: MakeTraining):
    training = annotated(make_lesson(90))
    own = np.arange(90) % 3 == 0
    is_gone = own & (np.arange(90) % 5 > 0)
    n_first: list[int] = []

    for outcome in (NAN, 0):
        score = training.score.copy()
        score[is_gone, 0] = outcome
        raw = make(name).fit(with_score(training, score)).model.predict(training.batch)
        n_first.append(int((raw[own].argmax(axis=1) == 0).sum()))

    assert n_first[0] > n_first[1]


@every_learner
def test_every_cell_has_evidence_in_one_line_and_json(
    name: str, training: Training, taught: Lesson
):
    for row in (0, 1, 2):
        for column in range(len(training.names)):
            evidence = taught.model.why(training.batch, row, column)

            assert isinstance(evidence, Evidence)
            assert len(evidence.reason.splitlines()) == 1
            json.dumps(dict(evidence.details), allow_nan=False)


@every_learner
def test_parts_in_the_evidence_add_up_to_the_raw_score(
    name: str, training: Training, taught: Lesson
):
    model = taught.model
    raw = model.predict(training.batch)

    for row in (0, 1, 2, 17):
        for column in range(len(training.names)):
            parts = model.why(training.batch, row, column).details.get("parts")
            if parts is not None:
                assert math.fsum(parts.values()) == pytest.approx(raw[row, column], abs=1e-3)


@every_learner
def test_a_query_without_an_annotation_is_no_error(name: str, training: Training, taught: Lesson):
    nobody = replace(training.batch, annotations=(None,) * len(training.batch))

    raw = taught.model.predict(nobody)

    assert raw.shape == training.score.shape
    assert not np.isinf(raw).any()
    assert taught.model.why(nobody, 0, 0).reason


@every_learner
def test_experts_are_asked_if_and_only_if_the_learner_says_that_it_needs_to(name: str):
    learner = make(name)
    asks = bool(learner.needs & {"annotations", "likelihoods"})

    flow = learner.annotate(Query("q", (Message("user", "What is law?"),)), ("ada", "bo", "cy"))

    assert (flow is not None) == asks


@every_learner
def test_an_unknown_setting_is_refused(name: str):
    with pytest.raises(ConfigError, match=f"router '{name}' has no setting 'colour'; "):
        make(name, {"colour": "red"})


def test_a_misspelt_learner_is_answered_with_the_nearest_one():
    with pytest.raises(ConfigError) as error:
        make("neighbors")

    assert str(error.value) == (
        "no router that learns 'neighbors'; "
        f"did you mean 'neighbours'? choose from {sorted(LEARNERS)}"
    )
