from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from composer.errors import ConfigError
from routers.category.choice import SHRINKAGES, choose, hold_out
from routers.category.classifier import choose_temperature
from routers.category.labels import make_labels
from routers.category.learner import CategoryLearner
from routers.learning import Batch, Lesson, Model, Training

MakeTraining = Callable[..., Training]


@pytest.fixture
def training(make_lesson: MakeTraining) -> Training:
    """Ninety queries in three subjects; ada is good at maths, bo at law, cy at cooking.

    They have 1, 2 and 3 billion parameters.
    """
    return make_lesson(90)


def learn(training: Training, **settings: Any) -> Lesson:
    return CategoryLearner(**settings).fit(training)


def told(batch: Batch, category: str | None) -> Batch:
    return replace(batch, categories=(category,) * len(batch))


def best(raw: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.where(np.isnan(raw), -1, raw).argmax(axis=1)


def test_a_known_category_scores_its_shrunk_means_whatever_the_text(training: Training):
    model = learn(training, shrinkage=0.0).model
    law = training.score[training.category_codes == training.categories.index("law")]

    raw = model.predict(told(training.batch, "law"))

    np.testing.assert_allclose(raw, np.tile(law.mean(axis=0), (90, 1)), atol=1e-6)
    assert (best(raw) == 1).all()


@pytest.mark.parametrize("classifier", ["logistic", "neighbours"])
@pytest.mark.parametrize("assign", ["soft", "hard"])
def test_a_hidden_category_is_told_by_the_text(training: Training, classifier: str, assign: str):
    lesson = learn(training, classifier=classifier, assign=assign, threshold=0.0)
    expected = np.arange(90) % 3

    assert (best(lesson.held_out) == expected).mean() > 0.9
    assert (best(lesson.held_out_known) == expected).all()


def test_a_soft_score_is_the_mean_weighted_by_probabilities_and_a_hard_one_is_not(
    training: Training,
):
    batch = training.batch.without_categories()
    means = {
        category: learn(training, shrinkage=2.0).model.predict(told(batch, category))[0, 0]
        for category in training.categories
    }
    hot = {"shrinkage": 2.0, "temperature": 1e6, "threshold": 0.0}

    soft = learn(training, assign="soft", **hot).model.predict(batch)
    hard = learn(training, assign="hard", **hot).model.predict(batch)

    np.testing.assert_allclose(soft[:, 0], np.mean(list(means.values())), atol=1e-4)
    assert set(np.round(hard[:, 0], 4)) == {np.round(mean, 4) for mean in means.values()}


def test_an_uncertain_query_has_the_overall_means_and_a_known_one_has_not(training: Training):
    model = learn(training, threshold=1.0).model
    batch = training.batch

    np.testing.assert_array_equal(
        model.predict(batch.without_categories()), np.tile(training.prior, (90, 1))
    )
    assert (best(model.predict(told(batch, "cooking"))) == 2).all()
    evidence = model.why(batch.without_categories(), 0, 1)
    overall = f"its overall mean {training.prior[1]:.3f}: too little confidence, "
    assert evidence.reason.startswith(overall)
    assert evidence.details["threshold"] == 1
    assert evidence.details["parts"] == {"overall mean": pytest.approx(float(training.prior[1]))}


def test_the_distance_is_that_to_the_nearest_mean_direction_of_a_category(training: Training):
    batch, codes = training.batch, training.category_codes
    sums = np.stack([batch.embeddings[codes == code].sum(axis=0) for code in range(3)])
    cosines = batch.embeddings[7] @ (sums / np.linalg.norm(sums, axis=1, keepdims=True)).T

    model = learn(training, uncertainty="distance").model

    confidence = model.why(batch.without_categories(), 7, 0).details["confidence"]
    assert confidence == pytest.approx(cosines.max(), abs=1e-4)


def test_a_category_never_recorded_is_as_if_unknown_and_the_evidence_says_so(training: Training):
    model = learn(training).model
    strange, hidden = told(training.batch, "astrology"), training.batch.without_categories()

    np.testing.assert_array_equal(model.predict(strange), model.predict(hidden))
    evidence = model.why(strange, 0, 0)
    assert evidence.reason.startswith("no outcome is recorded of 'astrology'; the text is of '")
    assert evidence.details["never_recorded"] == "astrology"
    assert "never_recorded" not in model.why(hidden, 0, 0).details


def test_evidence_names_the_likeliest_categories_and_its_parts_add_up(training: Training):
    model = learn(training, temperature=5.0, threshold=0.0).model
    batch = training.batch.without_categories()

    evidence = model.why(batch, 1, 1)

    shown = evidence.details["categories"]
    law = shown["law"]
    assert next(iter(shown)) == "law"
    assert evidence.reason.startswith(f"the text is of 'law' {law['p']:.2f} x {law['mean']:.3f}, '")
    assert evidence.details["confidence"] == law["p"]
    assert sum(evidence.details["parts"].values()) == pytest.approx(model.predict(batch)[1, 1])
    assert (
        model.why(training.batch, 1, 1).reason == f"the query is of 'law' 1.00 x {law['mean']:.3f}"
    )


def test_categories_beyond_the_largest_are_one_part(make_lesson: MakeTraining):
    training = make_lesson(90)
    names = tuple(f"{name} {row % 2}" for row, name in enumerate(training.batch.categories))
    many = replace(training, batch=replace(training.batch, categories=names))

    model = learn(many, temperature=10.0, threshold=0.0).model
    batch = many.batch.without_categories()
    parts = model.why(batch, 0, 0).details["parts"]

    assert len(parts) == 4
    assert list(parts)[-1] == "other categories"
    assert sum(parts.values()) == pytest.approx(model.predict(batch)[0, 0])


def test_settings_left_open_are_chosen_and_the_others_kept(training: Training):
    learner = CategoryLearner(shrinkage=3.0)

    used = learner.fit(training).model.settings

    assert learner.given["temperature"] is None
    assert used["shrinkage"] == 3
    assert used["categories"] == "recorded"
    assert 0 < used["temperature"] <= 5
    assert 0 <= used["threshold"] <= 1


def test_what_is_chosen_errs_least_on_held_out_rows(training: Training):
    held = hold_out(training, make_labels(training, None, 16), "logistic")

    chosen = choose(held, assign="soft", uncertainty="probability")

    reading = held.reading(chosen.temperature, "probability", chosen.threshold, told=False)
    known = held.reading(chosen.temperature, "probability", chosen.threshold, told=True)
    errors = {
        shrinkage: sum(
            held.losses(held.raw(each, "soft", shrinkage)).mean() for each in (reading, known)
        )
        for shrinkage in SHRINKAGES
    }
    assert chosen.temperature == choose_temperature(held.logits, training.category_codes)
    assert chosen.shrinkage == min(errors, key=lambda shrinkage: errors[shrinkage])
    assert max(errors.values()) > min(errors.values()) + 1e-4


def test_held_out_logits_do_not_depend_on_the_categories_of_their_fold(training: Training):
    labels = make_labels(training, None, 16)
    is_held = training.folds == training.folds[0]
    others = replace(labels, codes=np.where(is_held, 0, labels.codes))

    before, after = (hold_out(training, each, "logistic") for each in (labels, others))

    np.testing.assert_array_equal(after.logits[is_held], before.logits[is_held])
    np.testing.assert_array_equal(after.closeness[is_held], before.closeness[is_held])
    assert (after.logits[~is_held] != before.logits[~is_held]).any()


def test_everyone_is_certain_where_the_texts_tell_the_category(training: Training):
    assert learn(training).model.settings["threshold"] == 0


def test_queries_whose_text_misleads_are_made_uncertain(training: Training):
    codes = training.category_codes
    embeddings = np.eye(4, dtype=np.float32)[np.where(np.arange(90) < 45, codes, 3)]
    batch = replace(training.batch, embeddings=embeddings)
    means = {"temperature": 0.2, "shrinkage": 0.0}

    lesson = learn(replace(training, batch=batch), **means)

    assert lesson.model.settings["threshold"] > 0
    np.testing.assert_allclose(
        lesson.model.predict(batch.without_categories())[45:],
        np.tile(training.prior, (45, 1)),
    )


def test_subjects_that_do_not_matter_are_shrunk_away(training: Training):
    rng = np.random.default_rng(0)
    noise = (rng.random(training.score.shape) < [0.3, 0.5, 0.7]).astype(np.float32)

    used = learn(replace(training, score=noise)).model.settings

    assert used["shrinkage"] >= 40
    assert learn(training).model.settings["shrinkage"] < 40


def test_clusters_take_the_place_of_a_single_category(training: Training):
    single = replace(training, batch=told(training.batch, "all"))

    lesson = learn(single, n_clusters=3)

    assert lesson.model.settings["categories"] == "clusters"
    np.testing.assert_array_equal(lesson.held_out, lesson.held_out_known)
    assert (best(lesson.held_out) == np.arange(90) % 3).mean() > 0.6
    assert "never_recorded" not in lesson.model.why(single.batch, 0, 0).details
    np.testing.assert_array_equal(
        lesson.model.predict(told(single.batch, "cluster 1")), lesson.model.predict(single.batch)
    )


def test_a_category_that_only_the_held_out_fold_has_is_told_by_the_text(training: Training):
    is_held = training.folds == training.folds[0]
    names = tuple(
        "rare" if held else name
        for held, name in zip(is_held, training.batch.categories, strict=True)
    )
    lesson = learn(replace(training, batch=replace(training.batch, categories=names)))

    np.testing.assert_array_equal(lesson.held_out[is_held], lesson.held_out_known[is_held])
    assert np.isfinite(lesson.held_out).all()


def test_an_expert_known_in_one_fold_alone_is_unknown_there_when_it_is_held_out(
    training: Training,
):
    is_held = training.folds == training.folds[0]
    score = np.where(is_held[:, None] | (np.arange(3) != 1), training.score, np.nan)

    lesson = learn(replace(training, score=score.astype(np.float32)))

    np.testing.assert_array_equal(np.isnan(lesson.held_out), is_held[:, None] & (np.arange(3) == 1))
    assert np.isfinite(lesson.model.predict(training.batch)).all()


def test_the_only_fold_is_not_held_out(training: Training):
    lesson = learn(replace(training, folds=np.zeros_like(training.folds)))

    assert np.isnan(lesson.held_out).all()
    assert np.isnan(lesson.held_out_known).all()
    assert lesson.model.settings["temperature"] == 1
    assert (best(lesson.model.predict(training.batch)) == np.arange(90) % 3).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classifier": "svm"}, "no classifier 'svm'; choose from"),
        ({"assign": "sof"}, "no assign 'sof'; did you mean 'soft'"),
        ({"categories": "all"}, "no categories 'all'; choose from"),
        ({"uncertainty": "margin"}, "no uncertainty 'margin'; choose from"),
        ({"n_clusters": 1}, "'n_clusters' is 1; give a whole number from 2"),
        ({"temperature": 0}, "'temperature' is 0; give a number from 0.01"),
        ({"shrinkage": -1}, "'shrinkage' is -1; give a number from 0"),
        ({"threshold": 1.5}, "'threshold' is 1.5; give a number from 0 to 1"),
        ({"resident_params_b": -1}, "'resident_params_b' is -1; give a number from 0"),
        ({"active_params_b": "7"}, "'active_params_b' is '7'; give a number from 0"),
    ],
)
def test_a_wrong_setting_is_refused(settings: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        CategoryLearner(**settings)


def test_a_state_that_lacks_something_is_refused(training: Training):
    learner = CategoryLearner()
    model: Model = learner.fit(training).model
    meta, arrays = model.state()

    with pytest.raises(KeyError):
        learner.restore(meta, {name: a for name, a in arrays.items() if name != "means"})
