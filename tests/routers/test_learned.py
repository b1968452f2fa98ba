from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from composer.errors import ConfigError
from routers.learned.heads import HEADS
from routers.learned.learner import LearnedLearner
from routers.learned.model import LearnedModel
from routers.learning import Lesson, Training

if TYPE_CHECKING:
    from composer.types import Float32Array

MakeTraining = Callable[..., Training]
every_head = pytest.mark.parametrize("head", HEADS)
QUICK: dict[str, dict[str, Any]] = {
    "logistic": {"shared_l2": 1.0, "own_l2": 3.0},
    "mlp": {"epochs": 8},
    "factorisation": {"epochs": 8},
    "selection": {"epochs": 8, "balance": 0},
    "contrastive": {"epochs": 8},
}


def make(head: str, **settings: Any) -> LearnedLearner:
    return LearnedLearner(head=head, **{**QUICK[head], **settings})


def model_of(lesson: Lesson) -> LearnedModel:
    assert isinstance(lesson.model, LearnedModel)
    return lesson.model


def accuracy(raw: Float32Array, training: Training) -> float:
    """The mean chance of being right: 0.9 where the subject's own expert is chosen, else 0.3."""
    own = [training.names.index(n) for n in ("cy", "bo", "ada")]
    right = np.array(own)[training.category_codes]
    return float(np.where(raw.argmax(axis=1) == right, 0.9, 0.3).mean())


def advantage(raw: Float32Array) -> float:
    """How much higher than the others the first expert scores, on the average."""
    return float((raw[:, 0] - raw.mean(axis=1)).mean())


@every_head
def test_on_held_out_rows_each_subject_goes_to_its_expert(head: str, make_lesson: MakeTraining):
    training = make_lesson(300)

    lesson = make(head).fit(training)

    assert lesson.held_out.shape == training.score.shape
    assert accuracy(lesson.held_out, training) > 0.8
    assert accuracy(lesson.model.predict(training.batch), training) > 0.8


@every_head
def test_what_is_not_given_is_chosen_and_makes_the_same_model(head: str, make_lesson: MakeTraining):
    training = make_lesson(40)
    first = LearnedLearner(head=head).fit(training)

    settings = json.loads(json.dumps(dict(first.model.settings)))
    second = LearnedLearner(**settings).fit(training)

    assert None not in settings.values()
    assert second.model.settings == settings
    np.testing.assert_array_equal(second.held_out_known, first.held_out_known)
    np.testing.assert_array_equal(
        second.model.predict(training.batch), first.model.predict(training.batch)
    )


@every_head
def test_two_fits_are_equal(head: str, make_lesson: MakeTraining):
    training = make_lesson(60)

    first, second = make(head).fit(training), make(head).fit(training)

    np.testing.assert_array_equal(first.held_out, second.held_out)
    np.testing.assert_array_equal(
        first.model.predict(training.batch), second.model.predict(training.batch)
    )


@every_head
def test_the_order_of_the_experts_does_not_matter(head: str, make_lesson: MakeTraining):
    training = make_lesson(60, unknown=0.2)
    order = [2, 0, 1]
    mixed = replace(
        training,
        experts=tuple(training.experts[c] for c in order),
        score=training.score[:, order],
    )

    expected, found = make(head).fit(training), make(head).fit(mixed)

    np.testing.assert_array_equal(found.held_out, expected.held_out[:, order])
    np.testing.assert_array_equal(found.held_out_known, expected.held_out_known[:, order])
    np.testing.assert_allclose(
        found.model.predict(mixed.batch),
        expected.model.predict(training.batch)[:, order],
        atol=1e-6,
    )


@every_head
def test_a_query_scores_alike_alone_and_in_a_batch(head: str, make_lesson: MakeTraining):
    training = make_lesson(60)
    model = make(head).fit(training).model

    together = model.predict(training.batch)
    alone = [model.predict(training.batch.rows(np.array([row])))[0] for row in range(60)]

    np.testing.assert_allclose(together, alone, atol=1e-5)


@every_head
def test_without_an_expert_the_others_score_as_before(head: str, make_lesson: MakeTraining):
    training = make_lesson(60)
    model = make(head).fit(training).model

    without = model.without(1).predict(training.batch)

    np.testing.assert_allclose(without, model.predict(training.batch)[:, [0, 2]], atol=1e-5)


@every_head
def test_a_restored_model_scores_and_explains_as_the_one_saved(
    head: str, make_lesson: MakeTraining
):
    training = make_lesson(60)
    learner = make(head)
    model = learner.fit(training).model

    meta, arrays = model.state()
    restored = learner.restore(json.loads(json.dumps(meta)), arrays)

    np.testing.assert_array_equal(restored.predict(training.batch), model.predict(training.batch))
    assert restored.settings == model.settings
    assert restored.why(training.batch, 3, 1) == model.why(training.batch, 3, 1)
    assert all(array.dtype.kind == "f" for array in arrays.values())


def test_a_state_that_lacks_an_array_is_none(make_lesson: MakeTraining):
    learner = make("mlp")
    meta, arrays = learner.fit(make_lesson(30)).model.state()
    del arrays["outer"]

    with pytest.raises(KeyError):
        learner.restore(meta, arrays)


@pytest.mark.parametrize("name", ["center", "outer", "offsets"])
def test_a_state_whose_arrays_do_not_fit_is_none(name: str, make_lesson: MakeTraining):
    learner = make("mlp")
    meta, arrays = learner.fit(make_lesson(30)).model.state()
    arrays[name] = arrays[name][:-1]

    with pytest.raises(ValueError, match="shape"):
        learner.restore(meta, arrays)


@every_head
def test_unknown_cells_are_no_wrong_answers(head: str, make_lesson: MakeTraining):
    training = make_lesson(150)
    score = training.score.copy()
    score[::2, 0] = math.nan
    gaps, wrong = (
        replace(training, score=s.astype(np.float32)) for s in (score, np.nan_to_num(score))
    )

    of_gaps, of_wrong = (make(head).fit(each).held_out for each in (gaps, wrong))

    assert advantage(of_gaps) > advantage(of_wrong) + 0.1


@every_head
def test_an_expert_known_in_one_fold_alone_is_unknown_where_that_is_held_out(
    head: str, make_lesson: MakeTraining
):
    training = make_lesson(90)
    score = training.score.copy()
    is_first = training.folds == 0
    score[~is_first, 1] = math.nan

    lesson = make(head).fit(replace(training, score=score))

    assert np.isnan(lesson.held_out[is_first, 1]).all()
    assert not np.isnan(lesson.held_out[~is_first]).any()
    assert not np.isnan(lesson.held_out[:, [0, 2]]).any()
    assert not np.isnan(lesson.model.predict(training.batch)).any()


@every_head
def test_rows_of_one_fold_can_be_learned_from(head: str, make_lesson: MakeTraining):
    training = make_lesson(40)
    training = training.rows(training.folds == 2)

    lesson = LearnedLearner(head=head).fit(training)

    assert np.isnan(lesson.held_out).all()
    assert np.isfinite(lesson.model.predict(training.batch)).all()


@every_head
def test_two_rows_and_one_expert_are_enough(head: str, make_lesson: MakeTraining):
    training = make_lesson(2)
    training = replace(training, experts=training.experts[:1], score=training.score[:, :1])

    lesson = make(head).fit(training)

    assert np.isfinite(lesson.model.predict(training.batch)).all()


@every_head
@pytest.mark.parametrize("score", [0.0, 1.0])
def test_experts_that_are_always_right_or_wrong_have_finite_scores(
    head: str, score: float, make_lesson: MakeTraining
):
    training = make_lesson(30)
    scores = training.score.copy()
    scores[:, 0] = score

    lesson = make(head).fit(replace(training, score=scores))

    assert np.isfinite(lesson.held_out).all()
    assert np.isfinite(lesson.model.predict(training.batch)).all()


def coin_flips(make_lesson: MakeTraining) -> Training:
    """Texts say nothing; in `law` the first expert is right, elsewhere the second."""
    training = make_lesson(300)
    rng = np.random.default_rng(0)
    embeddings = rng.normal(0, 0.1, training.batch.embeddings.shape).astype(np.float32)
    is_law = np.array(training.batch.categories) == "law"
    score = np.stack([is_law, ~is_law], axis=1) * 0.8 + 0.1
    score = (rng.random(score.shape) < score).astype(np.float32)
    batch = replace(training.batch, embeddings=embeddings)
    return replace(training, batch=batch, experts=training.experts[:2], score=score)


def test_a_category_that_the_text_does_not_tell_counts_where_it_is_known(
    make_lesson: MakeTraining,
):
    training = coin_flips(make_lesson)
    is_law = np.array(training.batch.categories) == "law"

    lesson = make("logistic").fit(training)

    for known, hidden in (
        (lesson.held_out_known, lesson.held_out),
        (
            lesson.model.predict(training.batch),
            lesson.model.predict(training.batch.without_categories()),
        ),
    ):
        assert ((known[:, 0] > known[:, 1]) == is_law).mean() > 0.95
        assert ((hidden[:, 0] > hidden[:, 1]) == is_law).mean() < 0.85


def test_what_a_category_adds_on_held_out_rows_is_told_by_other_folds(make_lesson: MakeTraining):
    training = make_lesson(100)
    is_chess = training.folds == 1
    categories = tuple(
        "chess" if chess else name
        for chess, name in zip(is_chess, training.batch.categories, strict=True)
    )
    batch = replace(training.batch, categories=categories)

    lesson = make("logistic").fit(replace(training, batch=batch))

    added = lesson.held_out_known - lesson.held_out
    of_chess = lesson.model.predict(batch) - lesson.model.predict(batch.without_categories())
    assert not added[is_chess].any()
    assert added[~is_chess].all()
    assert of_chess[is_chess].all()


def test_an_unheard_of_category_adds_nothing(make_lesson: MakeTraining):
    training = make_lesson(60)
    model = make("logistic").fit(training).model
    batch = replace(training.batch, categories=("chess",) * 60)

    np.testing.assert_array_equal(
        model.predict(batch), model.predict(training.batch.without_categories())
    )


def test_rows_without_a_category_are_as_where_it_is_hidden(make_lesson: MakeTraining):
    training = make_lesson(60)
    batch = replace(training.batch, categories=(None, *training.batch.categories[1:]))

    lesson = make("logistic").fit(replace(training, batch=batch))

    np.testing.assert_array_equal(lesson.held_out_known[0], lesson.held_out[0])
    assert (lesson.held_out_known[1:] != lesson.held_out[1:]).any(axis=1).all()


@every_head
@pytest.mark.parametrize("is_told", [True, False])
def test_the_parts_of_the_evidence_add_up_to_the_raw_score(
    head: str, is_told: bool, make_lesson: MakeTraining
):
    training = make_lesson(60)
    batch = training.batch if is_told else training.batch.without_categories()
    model = make(head).fit(training).model

    evidence = model.why(batch, 7, 2)

    parts = evidence.details["parts"]
    assert sum(parts.values()) == pytest.approx(model.predict(batch)[7, 2], abs=1e-4)
    assert ("category" in parts) == is_told
    assert evidence.reason.startswith(f"{head} head: level ")
    assert len(evidence.reason.splitlines()) == 1
    json.dumps(dict(evidence.details), allow_nan=False)


def test_a_gate_is_part_of_the_evidence_and_a_small_one_is_left_out(make_lesson: MakeTraining):
    training = make_lesson(300)
    model = make("selection", epochs=16).fit(training).model
    batch = training.batch.without_categories()

    told = [model.why(batch, 0, column) for column in range(3)]

    shares = [evidence.details["gate"] for evidence in told]
    assert sum(shares) == pytest.approx(1)
    for evidence, share in zip(told, shares, strict=True):
        assert evidence.reason.endswith("under 0.15: left out") == (share < 0.15)
    assert max(shares) > 0.5


def test_a_network_is_brought_to_the_scale_of_logits(make_lesson: MakeTraining):
    training = make_lesson(300)

    lesson = make("contrastive").fit(training)

    # The chances are 0.9 and 0.3, which are 3 logits apart; cosines are at most 2 apart.
    spread = np.ptp(lesson.held_out, axis=1).mean()
    assert 1.5 < spread < 5
    assert model_of(lesson).scale != 1


def test_a_learner_has_the_settings_that_it_was_given():
    assert LearnedLearner().given == {"head": "logistic", "shared_l2": None, "own_l2": None}
    assert LearnedLearner(head="mlp", width=8).given == {"head": "mlp", "width": 8, "epochs": None}


def test_no_expert_is_asked(make_lesson: MakeTraining):
    learner = LearnedLearner()

    assert not learner.needs


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"head": "mpl"}, "router 'learned' has no head 'mpl'; did you mean 'mlp'? "),
        ({"head": "mlp", "own_l2": 1}, "router 'learned': head 'mlp' has no setting 'own_l2'; "),
        ({"balance": 1}, "router 'learned': head 'logistic' has no setting 'balance'; "),
        ({"shared_l2": 0}, "router 'learned': 'shared_l2' is 0; give a number from 0.001, "),
        ({"own_l2": True}, "router 'learned': 'own_l2' is True; give a number from 0.001, "),
        ({"head": "mlp", "width": 0}, "router 'learned': 'width' is 0; give a whole number from 1"),
        ({"head": "mlp", "epochs": 0.5}, "router 'learned': 'epochs' is 0.5; give a whole number "),
        ({"head": "selection", "balance": -1}, "router 'learned': 'balance' is -1; give a number "),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line(settings: dict[str, Any], message: str):
    with pytest.raises(ConfigError) as error:
        LearnedLearner(**settings)

    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
