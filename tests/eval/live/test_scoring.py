from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from composer.errors import ConfigError
from composer.outcomes import OutcomeTable, RecordedExpert, RecordedQuery
from composer.profile import Case
from composer.types import Sample
from eval.live.questions import Question
from eval.live.scoring import Scoring, rescored
from eval.tasks.task import typed_score

CASE = Case("a", "how long?", "3", "number", None, "test")


class LengthScorer:
    """Scores a text by its length, and keeps what it was asked."""

    def __init__(self) -> None:
        self.scored: list[str] = []

    def __call__(self, case: Case, sample: Sample) -> float:
        self.scored.append(sample.text)
        return min(1.0, len(sample.text) / 10)


@pytest.fixture
def scorer() -> LengthScorer:
    return LengthScorer()


async def test_a_tasks_own_scorer_judges_each_text_once(
    tmp_path: Path, scorer: LengthScorer
) -> None:
    question = Question(CASE, "t", scorer)
    with Scoring(tmp_path) as scoring:
        scores = [await scoring.score(question, Sample(t, "stop", 1)) for t in ("ab", "abcd", "ab")]

    assert scores == [0.2, 0.4, 0.2]
    assert scorer.scored == ["ab", "abcd"]


async def test_what_was_scored_before_an_interruption_is_not_scored_again(
    tmp_path: Path, scorer: LengthScorer
) -> None:
    question = Question(CASE, "t", scorer)
    with Scoring(tmp_path) as scoring:
        await scoring.score(question, Sample("ab", "stop", 1))
    with (tmp_path / "scores.jsonl").open("a") as file:
        file.write('{"id": "a", "ke')

    with Scoring(tmp_path) as scoring:
        again = await scoring.score(question, Sample("ab", "stop", 1))

    assert again == 0.2
    assert scorer.scored == ["ab"]


async def test_the_same_text_is_scored_for_each_question(
    tmp_path: Path, scorer: LengthScorer
) -> None:
    other = Question(Case("b", "how wide?", "3", "number"), "t", scorer)
    with Scoring(tmp_path) as scoring:
        await scoring.score(Question(CASE, "t", scorer), Sample("ab", "stop", 1))
        await scoring.score(other, Sample("ab", "stop", 1))

    assert scorer.scored == ["ab", "ab"]


async def test_a_typed_score_is_made_again_rather_than_kept(tmp_path: Path) -> None:
    with Scoring(tmp_path) as scoring:
        score = await scoring.score(Question(CASE, "t", typed_score), Sample("It is 3.", "stop", 3))

    assert score == 1.0
    assert (tmp_path / "scores.jsonl").read_bytes() == b""


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "scores.jsonl").write_text('{"key": "k"}\n')

    with pytest.raises(ConfigError, match=r"scores.jsonl:1: is no line of scores; remove it"):
        Scoring(tmp_path).__enter__()


async def test_only_texts_of_tasks_with_a_scorer_of_their_own_are_scored_anew(
    tmp_path: Path, scorer: LengthScorer
) -> None:
    texts = np.array([["abc", None], ["abcde", "x"]], np.object_)
    table = OutcomeTable(
        "t",
        tuple(RecordedQuery(i, "p", "test") for i in ("a", "b")),
        (RecordedExpert("ann"), RecordedExpert("bea")),
        np.array([[0, np.nan], [0, 1]], np.float32),
        texts=texts,
    )
    questions = [Question(CASE, "t", scorer), Question(CASE, "t", typed_score)]
    told: list[tuple[int, int]] = []

    with Scoring(tmp_path) as scoring:
        found = await rescored(table, questions, scoring, lambda done, n: told.append((done, n)))

    np.testing.assert_array_almost_equal(found.score, [[0.3, np.nan], [0, 1]])
    assert (scorer.scored, told) == (["abc"], [(1, 2), (2, 2)])
    assert table.score[0, 0] == 0
