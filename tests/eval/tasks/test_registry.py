from __future__ import annotations

import json
from pathlib import Path

import pytest

from composer.errors import ConfigError
from composer.types import Sample
from eval.starter.skills import SKILLS
from eval.tasks.registry import TASKS, Entry, load_task
from eval.tasks.task import Task
from tests.eval.tasks.conftest import Publishing

ROWS = {
    "gsm8k": {"question": "1 + 1?", "answer": "#### 2"},
    "mmlu": {"question": "Which?", "subject": "law", "choices": ["a", "b"], "answer": 1},
    "mmlu-pro": {
        "question_id": 1,
        "question": "Which?",
        "options": ["a", "b"],
        "answer": "B",
        "category": "law",
    },
    "arc": {
        "id": "q",
        "question": "Which?",
        "choices": {"text": ["a", "b"], "label": ["A", "B"]},
        "answerKey": "B",
    },
    "humaneval": {
        "task_id": "h",
        "prompt": "def f():\n",
        "entry_point": "f",
        "canonical_solution": "    return 2",
        "test": "def check(f): assert f() == 2",
    },
}
OWN = {"id": "own", "prompt": "1 + 1?", "reference": "2", "answer_type": "number", "category": None}


def ids(task: Task) -> list[str]:
    return [case.id for case in task.cases]


def refusal(name: str) -> str:
    """Why a task is not loaded."""
    with pytest.raises(ConfigError) as caught:
        load_task(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_starter_task_has_as_many_of_each_skill():
    task = load_task("starter")

    for split, n in (("train", 50), ("test", 100)):
        of_split = [case.category for case in task.split(split)]
        assert {skill: of_split.count(skill) for skill in SKILLS} == dict.fromkeys(SKILLS, n)
        assert len({case.prompt for case in task.split(split)}) == len(of_split)
    assert len({case.id for case in task.cases}) == len(task.cases)


def test_the_starter_task_has_nothing_that_adapters_learned_from():
    task = load_task("starter:sorting")

    assert task.name == "starter:sorting"
    assert ids(task)[:50] == [f"sorting-profile-{n}" for n in range(50)]
    assert ids(task)[50:] == [f"sorting-test-{n}" for n in range(100)]


@pytest.mark.parametrize("skill", sorted(SKILLS))
def test_a_skill_s_own_answers_are_right_and_other_ones_are_not(skill: str):
    task = load_task(f"starter:{skill}")

    for case in task.cases:
        assert task.scorer(case, Sample(case.reference, "stop", 9)) == 1
        assert task.scorer(case, Sample("I do not know", "stop", 9)) == 0


def test_an_unknown_skill_is_refused_with_what_was_meant():
    assert refusal("starter:sortin").startswith("no skill 'sortin'; did you mean 'sorting'?")


def test_own_cases_are_read_from_a_file(publishing: Publishing):
    task = load_task(str(publishing.lines("mine.jsonl", [OWN])))

    assert (task.name, ids(task)) == ("mine", ["own"])


def test_an_answer_type_that_nobody_scores_is_refused_with_those_that_are(publishing: Publishing):
    file = publishing.lines("mine.jsonl", [OWN, OWN | {"id": "b", "answer_type": "essay"}])

    assert refusal(str(file)) == (
        f"{file}:2: 'answer_type': no type 'essay'; choose from ['choice', 'code', 'json', "
        "'number', 'text', 'yes_no']"
    )


@pytest.mark.parametrize("name", sorted(ROWS))
def test_a_benchmark_is_read_from_a_path_and_from_the_hub(publishing: Publishing, name: str):
    file = publishing.lines("test.jsonl", [ROWS[name]])
    asked: list[str] = []

    def download(repo: str, file_name: str) -> Path:
        asked.append(f"{repo}/{file_name}")
        part = Path(file_name).name.partition("-")[0]
        return publishing.lines(f"{part}.jsonl", [of_part(name, part)])

    local = load_task(f"{name}:{file}", allow_code_execution=True)
    fetched = load_task(name, allow_code_execution=True, download=download)

    assert local.name == fetched.name == name
    assert local.split("test") == fetched.split("test")
    assert len(local.cases) == 1
    assert len(fetched.cases) == len(asked)
    assert all(path.endswith(".parquet") for path in asked)


def of_part(name: str, part: str) -> dict[str, object]:
    """The benchmark's row, with another question in each part but test."""
    text = json.dumps(ROWS[name])
    if part != "test":
        text = text.replace("Which?", f"Which of {part}?").replace("1 + 1?", f"1 + {part}?")
        text = text.replace('"q"', f'"{part}"').replace('"question_id": 1', '"question_id": 2')
    return json.loads(text)


def test_a_test_question_that_is_in_train_is_refused_or_taken_out_of_train(
    publishing: Publishing,
):
    publishing.lines("train.jsonl", [ROWS["gsm8k"]])
    publishing.lines("test.jsonl", [ROWS["gsm8k"]])
    name = f"gsm8k:{publishing.folder}"

    assert refusal(name).startswith("'gsm8k': 1 of the test questions are in train as well")
    assert ids(load_task(name, drop_leaks=True)) == ["gsm8k-test-0"]


def test_a_task_that_is_scored_by_running_code_wants_to_be_allowed(publishing: Publishing):
    file = publishing.lines("test.jsonl", [ROWS["humaneval"]])

    assert refusal(f"humaneval:{file}").endswith(
        "is scored by running what experts write; allow that with --allow-code-execution, where "
        "they can do no harm"
    )


def test_an_unknown_task_is_refused_with_what_was_meant():
    assert refusal("gsm8:data").startswith("no task 'gsm8'; did you mean 'gsm8k'?")
    assert "'FILE.jsonl'" in refusal("cases.json")


@pytest.mark.parametrize("entry", TASKS.values(), ids=lambda entry: entry.usage)
def test_every_task_says_in_a_line_what_it_is(entry: Entry):
    assert entry.about
    assert "\n" not in entry.about
