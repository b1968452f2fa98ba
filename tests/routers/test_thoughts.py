from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from composer.errors import ConfigError
from routers.learning import Training
from routers.thoughts.learner import ThoughtsLearner
from routers.thoughts.model import ThoughtsModel
from routers.thoughts.training import advantages

if TYPE_CHECKING:
    from composer.types import Float32Array

ROOT = Path(__file__).parents[2]
MakeTraining = Callable[..., Training]


def make(**settings: Any) -> ThoughtsLearner:
    return ThoughtsLearner(**{"steps": 200, "hidden": 32, **settings})


def learned(training: Training, **settings: Any) -> ThoughtsModel:
    """What `fit` makes of all rows, without the five of its folds."""
    return make(**settings)._train(training)  # pyright: ignore[reportPrivateUsage]


def two_kinds(training: Training) -> Training:
    """The same queries; the first kind is for one expert, both others for another."""
    score = np.full(training.score.shape, 0.2, np.float32)
    codes = training.category_codes
    score[codes == 0, 0] = 1
    score[codes > 0, 1] = 1
    return replace(training, score=score)


def chosen(raw: Float32Array) -> list[int]:
    return raw.argmax(axis=1).tolist()


def shares(raw: Float32Array) -> Float32Array:
    each = np.exp(raw - raw.max(axis=1, keepdims=True))
    return each / each.sum(axis=1, keepdims=True)


def test_two_kinds_of_queries_go_to_the_expert_that_is_best_on_each(make_lesson: MakeTraining):
    training = two_kinds(make_lesson(90))

    lesson = make().fit(training)

    best = training.score.argmax(axis=1)
    assert (lesson.held_out.argmax(axis=1) == best).mean() > 0.95
    assert (lesson.model.predict(training.batch).argmax(axis=1) == best).all()


def test_an_expert_that_is_never_best_is_used_only_where_the_balance_asks_for_it(
    make_lesson: MakeTraining,
):
    training = two_kinds(make_lesson(90))

    free = shares(learned(training, entropy=0).predict(training.batch)).mean(axis=0)
    forced = shares(learned(training, entropy=0, balance=3.0).predict(training.batch)).mean(axis=0)

    assert free[2] < 0.1
    assert forced[2] > free[2] + 0.1


def test_entropy_keeps_shares_closer_together(make_lesson: MakeTraining):
    training = two_kinds(make_lesson(60))

    sharp = shares(learned(training, entropy=0).predict(training.batch))
    even = shares(learned(training, entropy=1.0).predict(training.batch))

    assert even.max(axis=1).mean() < sharp.max(axis=1).mean() - 0.1


def test_with_two_experts_a_query_the_second_best_comes_second(make_lesson: MakeTraining):
    training = make_lesson(90)
    score = np.tile(np.array([0.0, 1.0, 0.9], np.float32), (90, 1))

    raw = learned(replace(training, score=score), k=2).predict(training.batch)

    assert (raw.argmin(axis=1) == 0).all()


def test_the_logits_of_a_query_have_the_mean_none(make_lesson: MakeTraining):
    training = make_lesson(60)

    raw = learned(training).predict(training.batch)

    np.testing.assert_allclose(raw.mean(axis=1), 0, atol=1e-5)


def test_another_seed_is_another_training(make_lesson: MakeTraining):
    training = make_lesson(60)

    one, other = (learned(training, seed=seed).predict(training.batch) for seed in (0, 1))

    assert not np.array_equal(one, other)


def test_a_known_category_changes_nothing(make_lesson: MakeTraining):
    training = make_lesson(60)

    lesson = make().fit(training)

    np.testing.assert_array_equal(lesson.held_out, lesson.held_out_known)


def test_an_expert_of_whom_nothing_is_known_has_unknown_scores_and_moves_no_other(
    make_lesson: MakeTraining,
):
    training = make_lesson(60)
    score = training.score.copy()
    score[:, 1] = math.nan
    without = replace(
        training,
        experts=(training.experts[0], training.experts[2]),
        score=training.score[:, [0, 2]],
    )

    model = learned(replace(training, score=score))

    raw = model.predict(training.batch)
    assert np.isnan(raw[:, 1]).all()
    np.testing.assert_array_equal(raw[:, [0, 2]], learned(without).predict(training.batch))
    assert model.why(training.batch, 0, 1).reason == (
        "nothing was known of it where this was learned"
    )


def test_advantages_are_beside_the_mean_of_what_is_known():
    score = np.array([[1, 0, math.nan], [0.5, 0.5, 0.5], [math.nan, 0.7, math.nan]], np.float32)

    found = advantages(score)

    np.testing.assert_allclose(found, [[0.5, -0.5, 0], [0, 0, 0], [0, 0, 0]], atol=1e-6)


def test_the_evidence_tells_the_share_of_the_routing(make_lesson: MakeTraining):
    training = two_kinds(make_lesson(60))
    model = learned(training)

    each = [model.why(training.batch, 4, column).details["share"] for column in range(3)]

    assert math.fsum(each) == pytest.approx(1, abs=1e-5)
    assert int(np.argmax(each)) == chosen(model.predict(training.batch))[4]


def test_a_state_of_other_shapes_is_refused(make_lesson: MakeTraining):
    learner, (meta, arrays) = make(), learned(make_lesson(30)).state()

    with pytest.raises(ValueError, match="weights of other shapes"):
        learner.restore(meta, {**arrays, "outer.bias": np.zeros(4, np.float32)})
    with pytest.raises(ValueError, match="columns"):
        learner.restore(meta, {**arrays, "columns": np.array([0, 1, 3])})
    with pytest.raises(KeyError):
        learner.restore({}, arrays)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("hidden", 0),
        ("k", 0),
        ("entropy", -1),
        ("balance", math.inf),
        ("consistency", "much"),
        ("temperature", 0),
        ("steps", 1.5),
        ("seed", -1),
    ],
)
def test_a_setting_out_of_its_range_is_refused(setting: str, value: Any):
    with pytest.raises(ConfigError, match=f"router 'thoughts': '{setting}' is "):
        ThoughtsLearner(**{setting: value})


def test_the_tables_of_routers_name_it_without_loading_torch():
    code = "import sys, routers; print('thoughts' in routers.FITTED, 'torch' in sys.modules)"

    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )

    assert run.stdout.split() == ["True", "False"]
