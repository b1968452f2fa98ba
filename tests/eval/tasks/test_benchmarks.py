"""Public benchmarks with options or numbers, in the forms in which they are published."""

from __future__ import annotations

from typing import Any

import pytest

from composer.answers import extract_answer
from composer.errors import ConfigError
from composer.types import AnswerType, Sample
from eval.tasks.arc import arc
from eval.tasks.choices import CHOICE
from eval.tasks.gsm8k import NUMBER, gsm8k
from eval.tasks.mmlu import MMLU_PATTERNS, mmlu, mmlu_pro
from eval.tasks.parts import find_parts
from eval.tasks.task import Task
from tests.eval.tasks.conftest import Publishing

APPLES = {"question": "Ann has 3 apples and buys 4.\nHow many?", "answer": "3+4=<<3+4=7>>7\n#### 7"}
OPTIONS = ["iron", "water", "air", "salt"]
PRO: dict[str, Any] = {
    "question_id": 70,
    "question": "Which is a metal?",
    "options": [*OPTIONS, "glass"],
    "answer": "A",
    "answer_index": 0,
    "category": "chemistry",
}
ROW: dict[str, Any] = {
    "question": "Which is a metal?",
    "subject": "chemistry",
    "choices": OPTIONS,
    "answer": 0,
}
RELEASED: dict[str, Any] = {
    "id": "M1",
    "question": {
        "stem": "Which is a metal?",
        "choices": [
            {"text": text, "label": label} for text, label in zip(OPTIONS, "ABCD", strict=True)
        ],
    },
    "answerKey": "A",
}
FLAT: dict[str, Any] = {
    "id": "M1",
    "question": "Which is a metal?",
    "choices": {"text": OPTIONS, "label": ["1", "2", "3", "4"]},
    "answerKey": "1",
}
ASKED = f"""\
Which is a metal?

A. iron
B. water
C. air
D. salt

{CHOICE}"""


def told(task: Task) -> list[tuple[str, str, str | None, str]]:
    """Id, reference, category and split of each case."""
    return [(case.id, case.reference, case.category, case.split) for case in task.cases]


def test_gsm8k_asks_for_the_number_behind_the_mark(publishing: Publishing):
    publishing.lines("train.jsonl", [APPLES, APPLES])
    publishing.lines("test.jsonl", [{"question": "Who?", "answer": "#### of 5\n#### -1,234.5"}])

    task = gsm8k(find_parts(publishing.folder))

    assert told(task) == [
        ("gsm8k-train-0", "7", "gsm8k", "train"),
        ("gsm8k-train-1", "7", "gsm8k", "train"),
        ("gsm8k-test-0", "-1,234.5", "gsm8k", "test"),
    ]
    assert task.cases[0].prompt == f"Ann has 3 apples and buys 4.\nHow many?\n\n{NUMBER}"
    assert {case.answer_type for case in task.cases} == {"number"}


def test_gsm8k_is_read_from_parquet_too(publishing: Publishing):
    file = publishing.parquet("test-00000-of-00001.parquet", [APPLES])

    assert told(gsm8k(find_parts(file))) == [("gsm8k-test-0", "7", "gsm8k", "test")]


@pytest.mark.parametrize("answer", ["7", "#### seven", "#### "])
def test_gsm8k_without_a_number_behind_the_mark_is_refused(publishing: Publishing, answer: str):
    file = publishing.lines("test.jsonl", [APPLES, {"question": "Who?", "answer": answer}])

    with pytest.raises(ConfigError) as caught:
        gsm8k(find_parts(file))

    assert str(caught.value) == f"{file}:2: 'answer': no number behind '####'; mend the row"


def test_mmlu_is_read_from_csv_files_named_by_subject_and_part(publishing: Publishing):
    row = ("Which is a metal?", *OPTIONS)
    publishing.csv("dev/high_school_chemistry_dev.csv", [(*row, "A")])
    publishing.csv("val/high_school_chemistry_val.csv", [(*row, "B")])
    publishing.csv("test/anatomy_test.csv", [(*row, "C"), (*row, "D")])
    publishing.csv("auxiliary_train/mc_test.csv", [(*row, "A")])

    task = mmlu(find_parts(publishing.folder, MMLU_PATTERNS))

    assert told(task) == [
        ("high_school_chemistry-dev-0", "A", "high_school_chemistry", "train"),
        ("high_school_chemistry-val-0", "B", "high_school_chemistry", "train"),
        ("anatomy-test-0", "C", "anatomy", "test"),
        ("anatomy-test-1", "D", "anatomy", "test"),
    ]
    assert {case.prompt for case in task.cases} == {ASKED}
    assert {case.answer_type for case in task.cases} == {"choice"}


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_mmlu_is_read_from_rows_with_numbered_answers(publishing: Publishing, form: str):
    rows = [ROW | {"question": " Which is a metal?\n"}, ROW | {"answer": 3, "subject": "anatomy"}]
    write = publishing.lines if form == "jsonl" else publishing.parquet
    file = write(f"validation.{form}", rows)

    task = mmlu(find_parts(file))

    assert told(task) == [
        ("chemistry-validation-0", "A", "chemistry", "train"),
        ("anatomy-validation-0", "D", "anatomy", "train"),
    ]
    assert task.cases[0].prompt == ASKED


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_mmlu_pro_has_up_to_ten_options(publishing: Publishing, form: str):
    ten = {"question_id": 71, "options": list("abcdefghij"), "answer": "J"}
    write = publishing.lines if form == "jsonl" else publishing.parquet
    file = write(f"test.{form}", [PRO, PRO | ten])

    task = mmlu_pro(find_parts(file))

    assert told(task) == [
        ("mmlu-pro-70", "A", "chemistry", "test"),
        ("mmlu-pro-71", "J", "chemistry", "test"),
    ]
    assert "\nI. i\nJ. j\n\n" in task.cases[1].prompt


def test_arc_is_read_as_it_was_released(publishing: Publishing):
    numbered = {"text": "iron", "label": "1"}, {"text": "air", "label": "2"}
    question = {"stem": "Which is a gas?", "choices": list(numbered)}
    publishing.lines("ARC-Easy-Train.jsonl", [RELEASED | {"id": "M0"}])
    publishing.lines("ARC-Easy-Dev.jsonl", [RELEASED])
    publishing.lines("ARC-Easy-Test.jsonl", [{"id": "M2", "question": question, "answerKey": "2"}])

    task = arc(find_parts(publishing.folder, ("*-{Part}.jsonl",)))

    assert told(task) == [
        ("M0", "A", "arc", "train"),
        ("M1", "A", "arc", "train"),
        ("M2", "B", "arc", "test"),
    ]
    assert task.cases[0].prompt == ASKED
    assert "\nA. iron\nB. air\n" in task.cases[2].prompt


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_arc_is_read_as_the_hub_has_it(publishing: Publishing, form: str):
    write = publishing.lines if form == "jsonl" else publishing.parquet
    file = write(f"test.{form}", [FLAT])

    task = arc(find_parts(file))

    assert told(task) == [("M1", "A", "arc", "test")]
    assert task.cases[0].prompt == ASKED


WRONG: list[tuple[Any, dict[str, Any], str]] = [
    (mmlu, ROW | {"answer": 4}, "'answer': '4' is none of ['0', '1', '2', '3']; mend the row"),
    (mmlu, ROW | {"choices": ["iron"]}, "'choices': tuple should have at least 2 items"),
    (mmlu, {**ROW, "subject": None}, "'subject': input should be a valid string"),
    (mmlu_pro, PRO | {"answer": "F"}, "'answer': 'F' is none of ['A', 'B', 'C', 'D', 'E']"),
    (mmlu_pro, PRO | {"options": list("abcdefghijk")}, "'options': tuple should have at most"),
    (arc, RELEASED | {"answerKey": "E"}, "'answerKey': 'E' is none of ['A', 'B', 'C', 'D']"),
    (arc, RELEASED | {"question": {"choices": []}}, "'question': 'released': 'stem': field"),
    (arc, {**FLAT, "choices": None}, "'choices' is missing; add it"),
    (
        arc,
        FLAT | {"choices": {"text": OPTIONS, "label": ["1", "2"]}},
        "'choices': 2 labels, 4 texts; mend the row",
    ),
]


@pytest.mark.parametrize(("make", "row", "said"), WRONG)
def test_a_wrong_row_is_named_with_its_field(
    publishing: Publishing, make: Any, row: dict[str, Any], said: str
):
    file = publishing.lines("test.jsonl", [row])

    with pytest.raises(ConfigError) as caught:
        make(find_parts(file))

    assert str(caught.value).startswith(f"{file}:1: {said}")


def test_a_letter_of_csv_that_is_no_option_is_refused(publishing: Publishing):
    file = publishing.csv("anatomy_test.csv", [("Which?", *OPTIONS, "E")])

    with pytest.raises(
        ConfigError, match=r"_test\.csv:1: 'answer': 'E' is none of \['A', 'B', 'C', 'D'\]"
    ):
        mmlu(find_parts(file))


@pytest.mark.parametrize(
    ("make", "row", "reply", "answer_type"),
    [
        (gsm8k, APPLES, "3 and 4 are 7.\n#### 7", "number"),
        (mmlu, ROW, "Iron is one. The answer is (A).", "choice"),
        (mmlu_pro, PRO, "The answer is (A).", "choice"),
        (arc, FLAT, "The answer is (A).", "choice"),
    ],
)
def test_a_reply_in_the_form_that_is_asked_for_is_read_and_right(
    publishing: Publishing, make: Any, row: dict[str, Any], reply: str, answer_type: AnswerType
):
    task = make(find_parts(publishing.lines("test.jsonl", [row])))

    assert extract_answer(reply, answer_type) == task.cases[0].reference
    assert task.scorer(task.cases[0], Sample(reply, "stop", 9)) == 1
    assert (
        task.scorer(task.cases[0], Sample(reply.replace("7", "8").replace("(A)", "(B)"), "stop", 9))
        == 0
    )
