from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from composer.types import Annotation
from routers.encoder import HashingEncoder
from routers.learning import Training
from routers.skill.learner import SkillLearner
from routers.skill.space import learn_space

if TYPE_CHECKING:
    from tests.routers.conftest import MakeTraining

Add = Callable[[str], Training]


def held_out_like(made: SkillLearner, plain: Training, added: Training) -> None:
    """Rows of the first fold score the same in both trainings when they are held out."""
    in_fold = plain.folds == plain.folds[0]
    first, second = (made.fit(each).held_out[in_fold] for each in (plain, added))

    np.testing.assert_allclose(first, second, atol=1e-6)


def test_a_word_of_held_out_rows_alone_does_not_count(make_lesson: MakeTraining):
    plain = make_lesson(120)
    texts = tuple(
        f"rare {text}" if fold == plain.folds[0] else text
        for text, fold in zip(plain.batch.texts, plain.folds, strict=True)
    )
    made = SkillLearner(HashingEncoder(), n_keywords=99, n_nearest=0, local_weight=1)

    held_out_like(made, plain, replace(plain, batch=replace(plain.batch, texts=texts)))


def test_an_annotated_skill_of_held_out_rows_alone_does_not_count(make_lesson: MakeTraining):
    plain = make_lesson(120)
    subjects = [[str(name)] for name in plain.batch.categories]
    more = [
        [*skills, "xyz"] if fold == plain.folds[0] else skills
        for skills, fold in zip(subjects, plain.folds, strict=True)
    ]
    without, with_more = (
        replace(
            plain,
            batch=replace(
                plain.batch, annotations=tuple(Annotation({"skills": each}) for each in said)
            ),
        )
        for said in (subjects, more)
    )
    made = SkillLearner(HashingEncoder(), annotator="ann", local_weight=1, floor=0.9)

    held_out_like(made, without, with_more)


def test_a_category_of_held_out_rows_alone_counts_as_not_told(make_lesson: MakeTraining):
    training = make_lesson(120)
    is_law = np.array([name == "law" for name in training.batch.categories])
    folds = np.where(is_law, 4, np.arange(120) % 4)
    lesson = SkillLearner(HashingEncoder(), category_weight=0.5).fit(replace(training, folds=folds))

    np.testing.assert_array_equal(lesson.held_out[is_law], lesson.held_out_known[is_law])
    assert (lesson.held_out[~is_law] != lesson.held_out_known[~is_law]).any()


@pytest.mark.parametrize(("n_keywords", "n_nearest"), [(3, 0), (0, 3), (2, 1)])
def test_words_in_a_text_and_words_near_to_it_are_different_skills(
    n_keywords: int, n_nearest: int, make_lesson: MakeTraining
):
    batch = make_lesson(60).batch
    space = learn_space(
        batch,
        HashingEncoder(),
        by_annotation=False,
        vocabulary=99,
        n_keywords=n_keywords,
        n_nearest=n_nearest,
        floor=0,
    )
    codes: list[int] = space.skilled(batch).codes[0].tolist()

    in_text = [space.names[code] for code in codes if not space.names[code].startswith("~")]
    assert (len(in_text), len(codes)) == (n_keywords, n_keywords + n_nearest)
    assert all(name in batch.texts[0].lower() for name in in_text)


def test_skills_of_which_nothing_is_known_do_not_count(make_lesson: MakeTraining):
    batch = make_lesson(60).batch
    space = learn_space(
        batch,
        HashingEncoder(),
        by_annotation=False,
        vocabulary=99,
        n_keywords=5,
        n_nearest=5,
        floor=None,
    )
    n_terms = len(space.terms)
    is_known = np.arange(2 * n_terms) < n_terms
    skilled = space.skilled(batch, is_known)

    np.testing.assert_array_equal(skilled.weights[skilled.codes >= n_terms], 0)
    assert (skilled.weights[skilled.codes < n_terms] > 0).any()


def test_of_equally_near_words_the_earlier_is_nearer(make_lesson: MakeTraining):
    training = make_lesson(60)
    batch = replace(training.batch, semantic=np.ones((60, 256), np.float32) / 16)
    space = learn_space(
        batch,
        HashingEncoder(),
        by_annotation=False,
        vocabulary=99,
        n_keywords=0,
        n_nearest=2,
        floor=-1,
    )
    alike = replace(space, embeddings=np.ones_like(space.embeddings) / 16)
    n_terms = len(space.terms)

    assert alike.skilled(batch).codes[0].tolist() == [n_terms, n_terms + 1]
