from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from composer.errors import ConfigError
from composer.types import Annotation, Message, Query
from routers.encoder import HashingEncoder
from routers.learning import Lesson, Training
from routers.skill.learner import SkillLearner

if TYPE_CHECKING:
    from composer.types import Float32Array
    from tests.routers.conftest import MakeTraining

MODES = ("additive", "code", "paper")
NAN = float("nan")


class ByLetter:
    """Skills are near if they begin alike."""

    dimension = 26

    def encode(self, texts: Sequence[str]) -> Float32Array:
        rows = np.zeros((len(texts), 26), np.float32)
        for row, text in zip(rows, texts, strict=True):
            row[ord(text[0]) - ord("a")] = 1
        return rows


def learner(**settings: Any) -> SkillLearner:
    return SkillLearner(HashingEncoder(), **settings)


def annotated(training: Training) -> Training:
    """The training with each query's subject as its one skill."""
    said = tuple(Annotation({"skills": [name]}) for name in training.batch.categories)
    return replace(training, batch=replace(training.batch, annotations=said))


def accuracy(raw: Float32Array, training: Training) -> float:
    chosen = np.nanargmax(np.where(np.isnan(training.score), NAN, raw), axis=1)
    return float(training.score[np.arange(len(raw)), chosen].mean())


def raw_scores(lesson: Lesson, training: Training) -> Float32Array:
    return lesson.model.predict(training.batch.without_categories())


@pytest.mark.parametrize("mode", MODES)
def test_words_tell_on_held_out_rows_which_expert_is_good(mode: str, make_lesson: MakeTraining):
    training = make_lesson(300)
    lesson = learner(mode=mode).fit(training)

    assert accuracy(lesson.held_out, training) > 0.8
    assert training.score.mean(axis=0).max() < 0.6


def test_a_known_category_is_a_skill_that_tells_more(make_lesson: MakeTraining):
    training = make_lesson(300)
    lesson = learner(vocabulary=1, n_nearest=0).fit(training)

    assert accuracy(lesson.held_out_known, training) > 0.8 > accuracy(lesson.held_out, training)


def test_a_category_that_no_recorded_query_has_counts_as_not_told(make_lesson: MakeTraining):
    training = make_lesson(60)
    model = learner().fit(training).model
    strange = replace(training.batch, categories=("poetry",) * 60)

    np.testing.assert_array_equal(
        model.predict(strange), model.predict(training.batch.without_categories())
    )


@pytest.mark.parametrize("is_told", [True, False])
def test_the_parts_add_up_to_the_raw_score(is_told: bool, make_lesson: MakeTraining):
    training = make_lesson(90, unknown=0.2)
    model = learner(category_weight=0.4).fit(training).model
    batch = training.batch if is_told else training.batch.without_categories()
    raw = model.predict(batch)

    for row, column in ((0, 0), (1, 2), (7, 1)):
        evidence = model.why(batch, row, column)
        parts = evidence.details["parts"]
        assert sum(parts.values()) == pytest.approx(raw[row, column], abs=1e-6)
        assert ("category: maths" in parts) is (is_told and row % 3 == 0)
        assert evidence.reason.startswith("overall ")


def test_the_source_modes_explain_both_factors(make_lesson: MakeTraining):
    training = make_lesson(90)
    model = learner(mode="code").fit(training).model
    raw = model.predict(training.batch)
    row, column = np.argwhere(raw > 0)[0].tolist()
    details = model.why(training.batch, row, column).details

    assert raw[row, column] == pytest.approx(details["local"] * details["competency"], rel=1e-6)
    assert details["local"] == pytest.approx(sum(details["skills"].values()))


@pytest.mark.parametrize("mode", MODES)
def test_a_restored_model_scores_the_same(mode: str, make_lesson: MakeTraining):
    training = make_lesson(60)
    made = learner(mode=mode)
    model = made.fit(training).model
    meta, arrays = model.state()

    restored = made.restore(json.loads(json.dumps(meta)), arrays)

    np.testing.assert_array_equal(restored.predict(training.batch), model.predict(training.batch))
    assert restored.settings == model.settings
    assert restored.why(training.batch, 3, 1) == model.why(training.batch, 3, 1)


@pytest.mark.parametrize("mode", MODES)
def test_without_an_expert_the_others_score_the_same(mode: str, make_lesson: MakeTraining):
    training = make_lesson(60)
    model = learner(mode=mode).fit(training).model
    fewer = model.without(1)

    np.testing.assert_array_equal(
        fewer.predict(training.batch), model.predict(training.batch)[:, [0, 2]]
    )
    assert fewer.why(training.batch, 5, 1) == model.why(training.batch, 5, 2)


@pytest.mark.parametrize("mode", MODES)
def test_the_order_of_the_experts_does_not_matter(mode: str, make_lesson: MakeTraining):
    training = make_lesson(60, unknown=0.2)
    turned = replace(training, experts=training.experts[::-1], score=training.score[:, ::-1])

    first, second = (learner(mode=mode).fit(each) for each in (training, turned))

    np.testing.assert_allclose(first.held_out, second.held_out[:, ::-1], atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_an_expert_of_which_nothing_is_known_is_unknown(mode: str, make_lesson: MakeTraining):
    training = make_lesson(60)
    score = training.score.copy()
    score[:, 1] = NAN
    score[training.folds == training.folds[0], 1] = 1
    lesson = learner(mode=mode).fit(replace(training, score=score))

    in_fold = training.folds == training.folds[0]
    assert np.isnan(lesson.held_out[in_fold, 1]).all()
    assert np.isfinite(np.delete(lesson.held_out, 1, axis=1)).all()
    assert np.isfinite(lesson.held_out[~in_fold]).all()


def test_a_query_alone_scores_as_in_its_batch(make_lesson: MakeTraining):
    training = make_lesson(60)
    lesson = learner().fit(training)

    alone = lesson.model.predict(training.batch.rows(np.array([7])))

    np.testing.assert_array_equal(alone, lesson.model.predict(training.batch)[[7]])


def test_a_text_without_a_known_skill_is_scored_by_overall_competency(make_lesson: MakeTraining):
    training = make_lesson(60)
    model = learner(n_nearest=0).fit(training).model
    strange = replace(training.batch.without_categories(), texts=("zzz",) * 60)

    np.testing.assert_allclose(model.predict(strange)[0], 2 * training.prior - 1, atol=1e-6)
    assert model.why(strange, 0, 0).reason.endswith("no known skill")


@pytest.mark.parametrize("mode", ["code", "paper"])
def test_the_source_modes_rank_by_competency_without_a_known_skill(
    mode: str, make_lesson: MakeTraining
):
    training = make_lesson(60)
    made = learner(mode=mode, n_nearest=0).fit(training).model
    strange = replace(training.batch, texts=("zzz",) * 60)
    _, arrays = made.state()

    raw = made.predict(strange)[0]

    assert raw.argsort().tolist() == arrays["competency"].argsort().tolist()


def test_what_is_near_in_meaning_counts_without_a_word_in_common(make_lesson: MakeTraining):
    training = make_lesson(300)
    model = learner(n_keywords=0, floor=0).fit(training).model

    assert accuracy(model.predict(training.batch.without_categories()), training) > 0.7


def test_a_floor_of_one_leaves_nothing_near(make_lesson: MakeTraining):
    training = make_lesson(60)
    model = learner(n_keywords=0, floor=1).fit(training).model

    assert list(model.why(training.batch.without_categories(), 0, 0).details["parts"]) == [
        "overall competency"
    ]


def test_texts_are_embedded_anew_where_the_given_embeddings_are_of_words(
    make_lesson: MakeTraining,
):
    training = make_lesson(60)
    words = replace(training.batch, semantic=np.ones((60, 3), np.float32))

    first, second = (learner().fit(replace(training, batch=b)) for b in (training.batch, words))

    np.testing.assert_allclose(first.held_out, second.held_out, atol=1e-6)


def test_too_few_rows_for_any_skill_leave_overall_competency(make_lesson: MakeTraining):
    training = make_lesson(4)
    lesson = learner().fit(training)

    assert raw_scores(lesson, training).shape == (4, 3)
    np.testing.assert_allclose(raw_scores(lesson, training)[0], 2 * training.prior - 1, atol=1e-6)


def test_rows_of_one_fold_teach_with_weights_of_one(make_lesson: MakeTraining):
    training = make_lesson(30)
    lesson = learner().fit(replace(training, folds=np.zeros(30, np.int64)))

    assert np.isnan(lesson.held_out).all()
    assert lesson.model.settings["local_weight"] == 1


def test_weights_that_are_given_are_kept(make_lesson: MakeTraining):
    model = learner(local_weight=3, category_weight=0.25).fit(make_lesson(60)).model

    assert model.settings["local_weight"] == 3
    assert model.settings["category_weight"] == 0.25
    assert learner().given["local_weight"] is None


def test_annotated_skills_tell_which_expert_is_good(make_lesson: MakeTraining):
    training = annotated(make_lesson(150))
    lesson = SkillLearner(ByLetter(), annotator="ann").fit(training)

    assert accuracy(lesson.held_out, training) > 0.8
    assert lesson.model.settings["floor"] == 0.4


def test_an_unknown_skill_counts_as_the_nearest_known_one(make_lesson: MakeTraining):
    training = annotated(make_lesson(60))
    model = SkillLearner(ByLetter(), annotator="ann").fit(training).model
    said = [["maths"], ["mathematics"], ["poetry"], ["mathematics", "maths"], ["law", "maths"]]
    batch = replace(
        training.batch.rows(np.arange(5)).without_categories(),
        annotations=tuple(Annotation({"skills": skills}) for skills in said),
    )
    raw = model.predict(batch)

    np.testing.assert_array_equal(raw[0], raw[1])
    np.testing.assert_array_equal(raw[0], raw[3])
    np.testing.assert_allclose(raw[2], 2 * training.prior - 1, atol=1e-6)
    assert set(model.why(batch, 4, 0).details["parts"]) == {"overall competency", "law", "maths"}


def test_skills_said_twice_after_mapping_weigh_twice(make_lesson: MakeTraining):
    training = annotated(make_lesson(60))
    model = SkillLearner(ByLetter(), annotator="ann").fit(training).model
    batch = replace(
        training.batch.rows(np.arange(2)).without_categories(),
        annotations=tuple(
            Annotation({"skills": skills})
            for skills in (["law", "maths", "mathematics"], ["law", "maths"])
        ),
    )
    twice, once = (model.why(batch, row, 0).details["parts"]["maths"] for row in (0, 1))

    assert twice == pytest.approx(once * (2 / 3) / (1 / 2))


def test_a_failed_annotator_leaves_overall_competency_and_its_words(make_lesson: MakeTraining):
    training = annotated(make_lesson(60))
    model = SkillLearner(ByLetter(), annotator="ann").fit(training).model
    failed = Annotation({"skills": [], "skills_failure": "'ann' failed: too late"})
    batch = replace(training.batch.without_categories(), annotations=(failed,) * 60)

    evidence = model.why(batch, 0, 0)

    np.testing.assert_allclose(model.predict(batch)[0], 2 * training.prior - 1, atol=1e-6)
    assert evidence.reason.endswith("no known skill: 'ann' failed: too late")
    assert evidence.details["failure"] == "'ann' failed: too late"


def test_an_annotator_needs_annotated_rows(make_lesson: MakeTraining):
    with pytest.raises(ConfigError, match="no recorded query is annotated with skills; record"):
        learner(annotator="ann").fit(make_lesson(30))


def test_an_annotator_is_asked_and_words_are_not():
    query = Query("q", (Message("user", "hello"),))
    flow = learner(annotator="ann", samples=3).annotate(query, ("ada",))

    assert flow is not None
    assert next(flow).requests[0].sampling.n == 3
    assert learner(annotator="ann").needs == {"annotations"}
    assert learner().annotate(query, ("ada",)) is None
    assert learner().needs == frozenset()


@pytest.mark.parametrize(
    ("setting", "value", "remedy"),
    [
        ("annotator", "", "name an expert"),
        ("annotator", 3, "name an expert"),
        ("constrained", 1, "give true or false"),
        ("mode", "codes", "did you mean 'code'"),
        ("samples", 0, "give a whole number from 1"),
        ("vocabulary", 0.5, "give a whole number from 1"),
        ("n_keywords", -1, "give a whole number from 0"),
        ("n_nearest", True, "give a whole number from 0"),
        ("floor", 2, "give a number from -1 to 1, or leave it out"),
        ("shrinkage", None, "give a number from 0"),
        ("local_weight", -1, "give a number from 0, or leave it out"),
        ("category_weight", 1.5, "give a number from 0 to 1, or leave it out"),
    ],
)
def test_a_setting_out_of_its_range_is_refused(setting: str, value: object, remedy: str):
    with pytest.raises(ConfigError, match=remedy) as caught:
        learner(**{setting: value})

    assert repr(value) in str(caught.value)
