from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from composer.errors import ConfigError
from composer.outcomes import (
    NOT_EXTRACTED,
    NOT_RECORDED,
    Answers,
    OutcomeTable,
    RecordedExpert,
    RecordedQuery,
    read_table,
    save_table,
)
from eval.__main__ import app as program
from eval.answers import answers, compare

app = typer.Typer()
app.command()(answers)

TOLD = [
    ("The answer is (A).", "A"),
    ("I cannot tell.", None),
    ("The answer is (B).", "C"),
    ("The answer is [D].", None),
    ("It is hard", "E"),
    ("The answer is (F).", "F"),
]
"""What was written and recorded: three right, another letter, an invented and a missed one."""


def save(folder: Path, told: list[tuple[str | None, str | int | None]]) -> str:
    """A table of one expert; a recorded answer that is a number is a code."""
    values = tuple(sorted({answer for _, answer in told if isinstance(answer, str)}))
    codes = [
        values.index(answer) if isinstance(answer, str) else NOT_EXTRACTED if answer is None
        else answer
        for _, answer in told
    ]  # fmt: skip
    queries = tuple(RecordedQuery(f"q{i}", f"What is {i}?", "train") for i in range(len(told)))
    texts = np.array([text for text, _ in told], np.object_)[:, None]
    table = OutcomeTable(
        "made",
        queries,
        (RecordedExpert("[ann]"),),
        np.zeros((len(told), 1), np.float32),
        answers=Answers(values, np.array(codes, np.int32)[:, None]),
        texts=texts,
    )
    save_table(table, folder)
    return str(folder)


def test_every_kind_of_difference_is_counted(tmp_path: Path):
    result = CliRunner().invoke(app, [save(tmp_path, [*TOLD]), "--output", "json"])

    found = json.loads(result.stdout)
    assert {key: found[key] for key in ("dataset", "answer_type", "n")} == {
        "dataset": "made",
        "answer_type": "choice",
        "n": 6,
    }
    assert [found[v] for v in ("right", "other", "invented", "missed")] == [3, 1, 1, 1]
    assert found["shares"]["right"] == 0.5
    assert 0 <= found["right_ci95"][0] < 0.5 < found["right_ci95"][1] <= 1
    assert found["examples"] == {"other": [], "invented": [], "missed": []}


def test_examples_of_each_difference_are_given_up_to_a_number(tmp_path: Path):
    folder = save(tmp_path, [*TOLD, ("Hm. " * 100, "G")])

    result = CliRunner().invoke(app, [folder, "--output", "json", "--examples", "1"])

    examples = json.loads(result.stdout)["examples"]
    assert [len(some) for some in examples.values()] == [1, 1, 1]
    assert examples["other"] == [
        {
            "query": "q2",
            "expert": "[ann]",
            "recorded": "C",
            "extracted": "B",
            "text": "The answer is (B).",
        }
    ]


def test_an_example_shows_the_end_of_a_long_text(tmp_path: Path):
    save(tmp_path, [("So. " * 1000 + "The answer is (B).", "C")])

    found = compare(read_table(tmp_path, texts=True), "choice", n_examples=1)

    (example,) = found.examples["other"]
    assert len(example.text) == 160
    assert example.text.endswith("The answer is (B).")


def test_the_figures_and_examples_are_shown_as_a_table(tmp_path: Path):
    result = CliRunner().invoke(app, [save(tmp_path, [*TOLD]), "--examples", "2"])

    assert "made: choice, 6 texts" in result.stdout
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["other", "1", "16.67"] in rows
    assert ["missed", "1", "16.67"] in rows
    assert "missed: query q4, [ann], recorded E, read None: ...'It is hard'" in result.stdout


@pytest.mark.parametrize("unknown", [(None, "A"), ("The answer is (A).", NOT_RECORDED)])
def test_what_lacks_a_text_or_its_answer_is_not_counted(
    tmp_path: Path, unknown: tuple[str | None, str | int]
):
    save(tmp_path, [*TOLD, unknown])

    assert compare(read_table(tmp_path, texts=True), "choice").n == 6


def test_answers_are_compared_by_their_type(tmp_path: Path):
    told: list[tuple[str | None, str | int | None]] = [
        ("The answer is 0.333333.", "1/3"),
        ("#### 1,000", "1000"),
        ("It is 5", "6"),
    ]

    result = CliRunner().invoke(
        app, [save(tmp_path, told), "--answer-type", "number", "--output", "json"]
    )

    found = json.loads(result.stdout)
    assert (found["answer_type"], found["right"], found["other"]) == ("number", 2, 1)


def test_each_query_is_a_step_of_progress(tmp_path: Path):
    save(tmp_path, [*TOLD])
    steps: list[None] = []

    compare(read_table(tmp_path, texts=True), "choice", on_query=lambda: steps.append(None))

    assert len(steps) == 6


@pytest.mark.parametrize("missing", ["texts", "answers"])
def test_a_table_without_texts_or_answers_is_refused(tmp_path: Path, missing: str):
    queries = (RecordedQuery("q", "What?", "train"),)
    score = np.zeros((1, 1), np.float32)
    answered = Answers(("A",), np.zeros((1, 1), np.int32))
    texts = np.array([["The answer is (A)."]], np.object_)
    save_table(
        OutcomeTable(
            "made",
            queries,
            (RecordedExpert("ann"),),
            score,
            answers=None if missing == "answers" else answered,
            texts=None if missing == "texts" else texts,
        ),
        tmp_path,
    )

    result = CliRunner().invoke(app, [str(tmp_path)])

    assert isinstance(result.exception, ConfigError)
    assert str(result.exception) == (
        f"made: no {missing} are recorded; name a folder that has both"
    )


def test_texts_and_answers_of_different_pairs_are_refused(tmp_path: Path):
    told: list[tuple[str | None, str | int | None]] = [(None, "A"), ("So it is.", NOT_RECORDED)]

    result = CliRunner().invoke(app, [save(tmp_path, told)])

    assert isinstance(result.exception, ConfigError)
    assert "made: no text has its answer recorded" in str(result.exception)


def test_the_program_has_the_command(tmp_path: Path):
    result = CliRunner().invoke(program, ["answers", save(tmp_path, [*TOLD])])

    assert result.exit_code == 0
    assert "right" in result.stdout
