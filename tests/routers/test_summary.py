from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.outcomes import OutcomeTable, RecordedExpert, RecordedQuery
from routers.learning import Training, make_training
from routers.summary import summarise

NAN = math.nan


def make_lesson(score: Sequence[Sequence[float]], categories: Sequence[str | None]) -> Training:
    queries = tuple(
        RecordedQuery(f"q{row:02}", "prompt", "train", category)
        for row, category in enumerate(categories)
    )
    scores = np.array(score, np.float32)
    experts = tuple(RecordedExpert(name) for name in "abc"[: scores.shape[1]])
    embedded = np.ones((len(queries), 1), np.float32)
    return make_training(OutcomeTable("made", queries, experts, scores), embedded, embedded)


SCORE = [[1, 0], [1, 0], [1, 0], [0, 1]]
OF_B = np.array([[0.1, 0.2]] * 4, np.float32)


def test_it_says_what_was_learned_from():
    training = make_lesson(SCORE, ["law", None, "art", "law"])

    summary = summarise(training, OF_B, OF_B)

    assert summary["queries"] == 4
    assert summary["experts"] == ["a", "b"]
    assert summary["categories"] == ["art", "law"]
    assert json.loads(json.dumps(summary)) == summary


def test_accuracies_are_of_the_first_choice_over_rows_and_over_categories():
    training = make_lesson(SCORE, ["law", "law", "law", "art"])

    summary = summarise(training, OF_B, OF_B[:, ::-1])

    assert summary["held_out"] == {"n": 4, "accuracy": 0.25, "macro_accuracy": 0.5}
    assert summary["held_out_known"] == {"n": 4, "accuracy": 0.75, "macro_accuracy": 0.5}
    assert summary["oracle"] == {"n": 4, "accuracy": 1.0, "macro_accuracy": 1.0}


def test_the_best_single_expert_is_best_with_the_categories_weighing_equally():
    training = make_lesson(
        [[1, 0], [1, 0], [1, 0], [0, 1], [0.5, 1]], ["law", "law", "law", "art", "sport"]
    )

    summary = summarise(training, np.tile(OF_B[0], (5, 1)), np.tile(OF_B[0], (5, 1)))

    assert summary["best_expert"] == "b"
    assert summary["best_single"] == {
        "n": 5,
        "accuracy": pytest.approx(2 / 5),
        "macro_accuracy": pytest.approx(2 / 3),
    }


def test_rows_on_which_the_choice_is_not_known_do_not_count():
    training = make_lesson([[1, NAN], [0, 1], [1, 0]], ["law"] * 3)
    quality = np.array([[0.1, 0.2], [NAN, 0.2], [NAN, NAN]], np.float32)

    summary = summarise(training, quality, quality)

    assert summary["held_out"] == {"n": 1, "accuracy": 1.0, "macro_accuracy": 1.0}


def test_where_nothing_was_held_out_the_accuracy_cannot_be_told():
    training = make_lesson(SCORE, ["law"] * 4)
    nothing = np.full((4, 2), NAN, np.float32)

    summary = summarise(training, nothing, nothing)

    assert summary["held_out"] == {"n": 0, "accuracy": None, "macro_accuracy": None}
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_no_choice_is_better_than_the_oracle_on_the_same_rows(seed: int):
    rng = np.random.default_rng(seed)
    training = make_lesson(
        rng.choice([0, 0.5, 1], (12, 3)).tolist(), rng.choice(["law", "art", ""], 12).tolist()
    )
    quality = rng.random((12, 3)).astype(np.float32)

    summary = summarise(training, quality, quality)

    for which in ("held_out", "best_single"):
        assert summary[which]["n"] == 12
        for figure in ("accuracy", "macro_accuracy"):
            assert summary[which][figure] <= summary["oracle"][figure] + 1e-6
