"""One run of the harness on scripted experts, and what is made of its files."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from composer.errors import ConfigError
from composer.outcomes import read_folder
from composer.profile import Case
from composer.types import Sample
from eval.__main__ import app
from eval.lm_harness.library import EvaluationTracker
from eval.lm_harness.run import save_files
from eval.tasks.task import typed_score
from tests.eval.lm_harness.conftest import experts_text

SAID = (
    ("What is 17 + 25?", "42", "17 and 25 make 42. The answer is 42."),
    ("What is 3 + 4?", "7", "The answer is 7\n\nWhat is 7 + 1? The answer is 8"),
    ("What is 1000 + 234?", "1234", "The answer is 1,234."),
    ("What is 9 + 9?", "18", "18 is too much. The answer is 19."),
    ("What is 5 - 8?", "-3", "The answer is -3"),
    ("What is 20 * 5?", "100", "The answer is $100."),
    ("What is 8 / 2?", "4", "I do not know: 4 or 5 or 6."),
    ("What is 6 + 6?", "12", "6 is one of them, and\nthe other is 6. The answer is 12"),
)
"""Questions, right answers, and what the clerk says."""
RIGHT = [1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0]
SUMS = {
    "task": "sums",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{answer}}",
    "output_type": "generate_until",
    "generation_kwargs": {"until": ["\n\n"], "max_gen_toks": 32, "do_sample": False},
    "filter_list": [
        {
            "name": "strict-match",
            "filter": [
                {"function": "regex", "regex_pattern": r"The answer is (\$?-?[0-9.,]+)"},
                {"function": "take_first"},
            ],
        }
    ],
    "metric_list": [
        {
            "metric": "exact_match",
            "aggregation": "mean",
            "higher_is_better": True,
            "regexes_to_ignore": [",", r"\$", r"\.$"],
        }
    ],
}
OPTIONS = {
    "task": "options",
    "doc_to_text": "{{question}}",
    "doc_to_choice": ["yes", "far from it"],
    "doc_to_target": 0,
    "output_type": "multiple_choice",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}


@dataclass(frozen=True)
class Ran:
    """The command, run in a folder."""

    folder: Path
    result: Result

    @property
    def figures(self) -> dict[str, Any]:
        return json.loads(self.result.stdout)

    def samples(self, task: str) -> list[dict[str, Any]]:
        (file,) = (self.folder / "out" / "alone").glob(f"samples_{task}_*.jsonl")
        return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def write(folder: Path) -> None:
    """Two tasks on the same questions, and experts who answer them."""
    data = folder / "questions.jsonl"
    rows = [{"question": question, "answer": answer} for question, answer, _ in SAID]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    for task in (SUMS, OPTIONS):
        local = {
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": str(data), "cache_dir": str(folder / "cache")},
            "test_split": "train",
        }
        (folder / f"{task['task']}.yaml").write_text(json.dumps(task | local), "utf-8")
    replies = {question: said for question, _, said in SAID}
    text = experts_text({"text": "Hm", "replies": replies}, {"text": "7"})
    (folder / "experts.yaml").write_text(text, "utf-8")


def run(folder: Path, *flags: str) -> Result:
    """The command on the tasks and experts of a folder."""
    out, experts = str(folder / "out"), str(folder / "experts.yaml")
    return CliRunner().invoke(
        app, ["harness", "--out", out, "--experts", experts, "--output", "json", *flags]
    )


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Both tasks, done by one expert under a composition's name."""
    folder = tmp_path_factory.mktemp("harness")
    write(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "user"))
        result = run(
            folder,
            *("--tasks", str(folder / "sums.yaml"), "--tasks", str(folder / "options.yaml")),
            *("--composition", "alone"),
        )
    assert result.exception is None, result.exception
    return Ran(folder, result)


def test_the_harness_scores_what_the_experts_said(ran: Ran) -> None:
    samples = ran.samples("sums")

    assert [sample["exact_match"] for sample in samples] == RIGHT
    assert samples[1]["resps"] == [["The answer is 7"]]


def test_the_harness_and_the_typed_scorer_agree_on_every_logged_answer(ran: Ran) -> None:
    samples = ran.samples("sums")

    ours = [
        typed_score(
            Case(str(sample["doc_id"]), sample["doc"]["question"], sample["target"], "number"),
            Sample(sample["resps"][0][0], "stop", 1),
        )
        for sample in samples
    ]

    assert ours == [sample["exact_match"] for sample in samples]
    assert set(ours) == {0.0, 1.0}


def test_the_likelier_option_is_chosen(ran: Ran) -> None:
    samples = ran.samples("options")

    assert [sample["acc"] for sample in samples] == [1.0] * len(SAID)
    assert samples[0]["filtered_resps"] == [["-0.5", "False"], ["-1.5", "False"]]


def test_the_figures_are_printed(ran: Ran) -> None:
    rows = {row["task"]: row for row in ran.figures["rows"]}

    assert rows["sums"]["filter"] == "strict-match"
    assert (rows["sums"]["metric"], rows["sums"]["value"]) == ("exact_match", 0.75)
    assert 0.1 < rows["sums"]["stderr"] < 0.2
    assert (rows["options"]["metric"], rows["options"]["value"]) == ("acc", 1.0)
    assert [row["n"] for row in rows.values()] == [8, 8]
    assert ran.figures["folder"] == str(ran.folder / "out" / "alone")


def test_the_results_say_who_was_asked(ran: Ran) -> None:
    (file,) = (ran.folder / "out" / "alone").glob("results_*.json")
    results = json.loads(file.read_text("utf-8"))

    assert results["model_name"] == "alone"
    assert results["config"]["composition"] == "alone"
    assert results["config"]["failed_requests"] == 0


def test_the_samples_are_imported_as_outcomes(ran: Ran, tmp_path: Path) -> None:
    samples = ran.folder / "out" / "alone"

    result = CliRunner().invoke(app, ["import", "lm-eval", str(samples), str(tmp_path / "made")])

    assert result.exception is None, result.exception
    table = read_folder(tmp_path / "made", texts=True)
    of_sums = [row for row, query in enumerate(table.queries) if query.category == "sums"]
    assert table.names == ("alone",)
    assert [table.score[row, 0] for row in of_sums] == RIGHT
    assert [table.queries[row].prompt for row in of_sums] == [question for question, _, _ in SAID]
    assert [table.queries[row].reference for row in of_sums] == [answer for _, answer, _ in SAID]
    assert table.texts is not None
    assert table.texts[of_sums[2], 0] == "The answer is 1,234."


@pytest.fixture
def tracker(tmp_path: Path) -> Any:
    """What writes the harness' files."""
    made: Any = EvaluationTracker(output_path=str(tmp_path))
    made.general_config_tracker.log_experiment_args("CUSTOM", {"model": "alone"}, None, None, False)
    return made


def logged(**more: Any) -> dict[str, Any]:
    """A sample of the harness."""
    hashes = {"doc_hash": "d", "prompt_hash": "p", "target_hash": "t"}
    return {
        "arguments": [["why?"]],
        "resps": [["Hm"]],
        "filtered_resps": ["Hm"],
        "target": "42",
    } | (hashes | more)


def test_files_that_cannot_be_written_are_an_error(tmp_path: Path, tracker: Any) -> None:
    (tmp_path / "alone").write_text("a file", "utf-8")

    with pytest.raises(ConfigError, match=r"results_.*\.json: cannot be written; name another"):
        save_files(tracker, {}, {"sums": [logged()]}, tmp_path / "alone")


def test_samples_that_are_not_written_whole_are_an_error(tmp_path: Path, tracker: Any) -> None:
    rows = [logged(), logged(doc={("no", "key"): 1})]

    with pytest.raises(ConfigError, match=r"samples_sums_.*\.jsonl: cannot be written"):
        save_files(tracker, {}, {"sums": rows}, tmp_path / "alone")


def test_a_composition_that_there_is_not_is_met_with_those_there_are(tmp_path: Path) -> None:
    write(tmp_path)

    result = run(tmp_path, "--tasks", str(tmp_path / "sums.yaml"), "--composition", "votes")

    assert isinstance(result.exception, ConfigError)
    assert str(result.exception).startswith("no composition 'votes'; did you mean 'vote'?")


def test_options_and_several_experts_do_not_go_together(tmp_path: Path) -> None:
    write(tmp_path)

    result = run(tmp_path, "--tasks", "options", "--include-path", str(tmp_path), "-c", "vote")

    assert isinstance(result.exception, ConfigError)
    assert "\n" not in str(result.exception)
    assert str(result.exception).startswith("task 'options' has options")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "out").write_text("a file", "utf-8")

    result = run(tmp_path, "--tasks", str(tmp_path / "sums.yaml"), "-c", "alone")

    assert isinstance(result.exception, ConfigError)
    assert "cannot be written" in str(result.exception)


def test_without_the_harness_the_command_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path)
    monkeypatch.setitem(sys.modules, "lm_eval", None)

    result = run(tmp_path, "--tasks", "sums")

    assert isinstance(result.exception, ConfigError)
    assert str(result.exception).startswith("lm-eval is not installed")
