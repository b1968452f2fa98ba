from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from composer.errors import ConfigError
from routers.category.learner import CategoryLearner
from routers.learning import Batch, Lesson, Training

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


@pytest.mark.parametrize(
    ("budget", "scored", "takes"),
    [
        ({"resident_params_b": 3}, [True, True, False], {"maths": 0, "law": 1}),
        ({"resident_params_b": 1.5}, [True, False, False], {"cooking": 0}),
        ({"active_params_b": 2}, [True, True, True], {"maths": 0, "law": 1, "cooking": 2}),
    ],
)
def test_within_a_budget_only_experts_mapped_to_have_scores_and_a_known_query_goes_to_its_own(
    training: Training, budget: dict[str, float], scored: list[bool], takes: dict[str, int]
):
    lesson = learn(training, threshold=0.0, **budget)

    assert (~np.isnan(lesson.held_out)).any(axis=0).tolist() == scored
    for category, column in takes.items():
        raw = lesson.model.predict(told(training.batch, category))
        assert (best(raw) == column).all()
        assert not np.isnan(raw[:, np.flatnonzero(scored)[0]]).any()


def test_within_an_active_budget_no_query_goes_to_a_larger_expert_than_its_category_has(
    training: Training,
):
    model = learn(training, threshold=0.0, active_params_b=2).model

    raw = model.predict(told(training.batch, "law"))

    assert np.isnan(raw).tolist() == [[False, False, True]] * 90
    assert model.why(told(training.batch, "law"), 0, 1).details["mapped_to"] == "bo"


def test_an_active_budget_holds_in_the_mean_over_the_categories(training: Training):
    model = learn(training, threshold=0.0, active_params_b=1.7).model

    chosen = best(model.predict(training.batch))

    assert (chosen + 1).mean() <= 1.7 + 1e-6
    assert (chosen + 1).mean() > 1.3


def test_uncertain_queries_count_in_the_budget(training: Training):
    model = learn(training, threshold=1.0, active_params_b=2).model
    hidden = training.batch.without_categories()
    generalist = int(training.prior[:2].argmax())

    assert (best(model.predict(hidden)) == generalist).all()
    evidence = model.why(hidden, 0, 0)
    assert evidence.details["mapped_to"] == training.names[generalist]
    assert evidence.reason.endswith(f"; within the budget {training.names[generalist]!r} takes it")


def test_what_an_expert_of_a_mapping_leaves_is_given_anew(training: Training):
    model = learn(training, threshold=0.0, resident_params_b=3).model

    left = model.without(1)

    raw = left.predict(told(training.batch, "law"))
    assert np.isnan(raw).tolist() == [[True, False]] * 90


def test_an_expert_that_alone_is_within_the_budget_cannot_be_taken_out(training: Training):
    model = learn(training, resident_params_b=1.5).model

    with pytest.raises(ConfigError, match=r"'resident_params_b' 1.5 .*; give 2 or more"):
        model.without(0)


def test_a_mapping_comes_back_with_the_model(training: Training):
    learner = CategoryLearner(resident_params_b=3, active_params_b=2)
    model = learner.fit(training).model
    meta, arrays = model.state()

    again = learner.restore(json.loads(json.dumps(meta)), arrays)

    np.testing.assert_array_equal(again.predict(training.batch), model.predict(training.batch))
    assert again.why(training.batch, 0, 0) == model.why(training.batch, 0, 0)


def test_a_budget_needs_the_size_of_every_expert(training: Training):
    experts = (training.experts[0], replace(training.experts[1], params_b=None))
    partial = replace(training, experts=(*experts, training.experts[2]))

    with pytest.raises(ConfigError, match=r"needs the size of \['bo'\]; record their params_b"):
        learn(partial, active_params_b=2)
    assert np.isfinite(learn(partial).held_out).all()


def test_a_budget_that_nothing_meets_is_refused(training: Training):
    with pytest.raises(ConfigError, match=r"no expert fits 'resident_params_b' 0.5 .*give 1 or"):
        learn(training, resident_params_b=0.5)
