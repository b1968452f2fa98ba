"""The comparison on the starter's models: what is asked, the controls, and the table."""

# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import pytest

from composer.latent.members import Thinker
from composer.latent.rows import Row
from composer.types import Message
from eval.latent.starter_rows import (
    Question,
    skill_questions,
    skill_rows,
    text_questions,
    text_rows,
)
from eval.latent.starter_skills import ADAPTER, ALONE, summary
from eval.latent.systems import Heckled, alone, answers, is_right
from tests.composer.latent.groups import PROMPTS, group, thinkers

ASKED = [Question(Row((Message("user", text),), "oslo"), "text", "text") for text in PROMPTS[:4]]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Thinker, ...]:
    """A Llama that writes and a Gemma that it attends to."""
    return thinkers(tmp_path_factory.mktemp("pair"), ["llama", "gemma"])


def test_no_question_is_among_the_rows_that_are_learned_from() -> None:
    for rows, questions in (
        (skill_rows(200, 0), skill_questions(4)),
        (text_rows(200, 0), text_questions()),
    ):
        learned = {(row.messages, row.answer) for row in rows}
        assert len(rows) == 200
        assert len(questions) >= 20
        assert not learned & {(q.row.messages, q.row.answer) for q in questions}


def test_rows_are_the_same_for_the_same_seed_and_go_round_where_there_are_too_few() -> None:
    assert skill_rows(20, 1) == skill_rows(20, 1) != skill_rows(20, 2)
    assert len(set(text_rows(2000, 0))) < 2000


def test_controls_hear_another_question_or_nothing(pair: tuple[Thinker, ...]) -> None:
    made = group(pair, opened=0.5)
    shuffled, zero = (Heckled(pair, made.interaction, how) for how in ("shuffled", "zero"))

    said = {name: answers(one, "llama", ASKED) for name, one in (("mot", made), ("zero", zero))}

    assert said["mot"] != said["zero"]
    assert answers(shuffled, "llama", ASKED) != said["mot"]
    assert answers(made, "llama", ASKED) == said["mot"]


def test_a_group_that_learned_nothing_says_what_its_primary_says(pair: tuple[Thinker, ...]) -> None:
    assert answers(group(pair), "llama", ASKED) == alone(pair[0], ASKED)


def test_an_answer_is_right_by_its_type() -> None:
    question = Question(ASKED[0].row, "text", "text")
    assert is_right(question, "Oslo.")
    assert not is_right(question, "Bergen")


def test_the_table_is_paired_and_has_intervals() -> None:
    half = {"right": [1.0, 0.0, 1.0, 0.0], "nats": [1.0, 2.0, 1.0, 2.0]}
    none = {"right": [0.0] * 4, "nats": [3.0] * 4}

    rows = {row["system"]: row for row in summary("skills", {ALONE: [none], "mot": [half, half]})}

    assert list(rows) == [ALONE, "mot"]
    assert ADAPTER not in rows
    assert (rows["mot"]["seeds"], rows["mot"]["n"]) == (2, 4)
    assert rows["mot"]["right"]["mean"] == 0.5
    assert rows["mot"]["right"]["low"] <= 0.5 <= rows["mot"]["right"]["high"]
    assert rows[ALONE]["right"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert rows[ALONE]["right_to_mot"]["mean"] == -0.5
    assert rows[ALONE]["nats_to_mot"]["mean"] == 1.5
    assert rows["mot"]["nats_to_mot"] is None
