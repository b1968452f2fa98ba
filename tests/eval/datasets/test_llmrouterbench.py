from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from tests.eval.datasets.conftest import Importing


def record(index: int | None, score: float | None, **more: Any) -> dict[str, Any]:
    return {
        "index": index,
        "origin_query": f"question {index}",
        "prompt": f"Solve: question {index}",
        "prediction": "4",
        "ground_truth": 4,
        "score": score,
        "prompt_tokens": 15,
        "completion_tokens": 5,
        "cost": 0.25,
        "raw_output": "It is 4.",
    } | more


def result(model: str, records: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    names = {"model_name": model, "dataset_name": "aime", "split": "hybrid"}
    return {"performance": 0.5, "counts": len(records), "records": records} | names | more


def path(model: str, stamp: str = "20250901_120000") -> str:
    return f"bench/aime/hybrid/{model}/aime-hybrid-{model}-{stamp}.json"


@pytest.fixture
def bench(importing: Importing) -> Path:
    """Two models, two questions, one score of which is missing."""
    importing.json(path("a"), result("a", [record(1, 1.0), record(2, 0.0, prediction="")]))
    importing.json(path("b"), result("b", [record(1, None), record(2, 1.0)]))
    return importing.folder / "bench"


def test_records_become_cells_with_all_that_is_known(importing: Importing, bench: Path) -> None:
    table = importing.table("llmrouterbench", bench)

    assert table.names == ("a", "b")
    np.testing.assert_array_equal(table.score, [[1, np.nan], [0, 1]])
    assert [(q.id, q.prompt, q.category, q.reference) for q in table.queries] == [
        ("aime:hybrid:1", "Solve: question 1", "aime", "4"),
        ("aime:hybrid:2", "Solve: question 2", "aime", "4"),
    ]
    assert table.cost_usd is not None
    assert table.answers is not None
    assert table.texts is not None
    assert table.cost_usd[0, 0] == 0.25
    assert [table.answers.value(0, 0), table.answers.value(1, 0)] == ["4", None]
    assert table.texts[1, 1] == "It is 4."


def test_the_benchmarks_split_is_not_the_routers(importing: Importing, bench: Path) -> None:
    done = importing.done("llmrouterbench", bench, "--split", "1")

    assert "the source names no splits" in done.stderr
    assert importing.table("llmrouterbench", bench, "--split", "1", "--force").splits == ("test",)


def test_the_newest_result_counts_by_its_name(importing: Importing, bench: Path) -> None:
    importing.json(path("a", "20240101_000000"), result("a", [record(1, 0.5), record(2, 0.5)]))
    importing.json(
        "bench/aime/hybrid/a/result.json", result("a", [record(1, 0.75), record(2, 0.75)])
    )

    scores = importing.scores("llmrouterbench", bench)

    assert scores["Solve: question 1"]["a"] == 1


def test_demonstrations_do_not_count(importing: Importing, bench: Path) -> None:
    demo = result("a", [record(1, 0.5)], demo=True)
    importing.json(path("a", "20260101_000000"), demo)

    assert importing.scores("llmrouterbench", bench)["Solve: question 1"] == {"a": 1}


def test_folders_say_what_a_file_does_not(importing: Importing) -> None:
    src = importing.json("bench/aime/test/m/20250901_120000.json", {"records": [record(1, 1)]})

    table = importing.table("llmrouterbench", src.parents[3])

    assert table.names == ("m",)
    assert table.queries[0].id == "aime:test:1"


def test_flat_lines_hold_the_same(importing: Importing) -> None:
    flat = {"dataset_id": "bbh", "split": "test", "model_name": "m", "record_index": 7}
    line = record(7, 1.0) | flat
    del line["index"]

    table = importing.table("llmrouterbench", importing.lines("flat.jsonl", [line]))

    assert [(query.id, query.category) for query in table.queries] == [("bbh:test:7", "bbh")]
    assert table.score.tolist() == [[1]]


def test_a_question_in_other_words_is_one_query_and_said(importing: Importing, bench: Path) -> None:
    importing.json(path("c"), result("c", [record(1, 1.0, prompt="Think. question 1")]))

    stderr = importing.done("llmrouterbench", bench).stderr

    assert "outcomes of a question in other words, the first words kept: 1" in stderr
    assert importing.scores("llmrouterbench", bench, "--force")["Solve: question 1"] == {
        "a": 1,
        "c": 1,
    }


def test_two_questions_under_one_index_are_refused(importing: Importing, bench: Path) -> None:
    other = importing.json(path("c"), result("c", [record(1, 1.0, origin_query="Why?")]))

    assert importing.refusal("llmrouterbench", bench) == (
        f"{other}: record 1: 'aime:hybrid:1' is another question than before; mend the ids"
    )


def test_a_model_that_never_cost_anything_was_not_priced(importing: Importing) -> None:
    importing.json(path("a"), result("a", [record(1, 1.0, cost=0.0), record(2, 1.0, cost=0)]))
    importing.json(path("b"), result("b", [record(1, 1.0, cost=0.0), record(2, 1.0)]))

    stderr = importing.done("llmrouterbench", importing.folder / "bench").stderr
    table = importing.table("llmrouterbench", importing.folder / "bench", "--force")

    assert "models whose every cost is 0, unknown and not free: 1" in stderr
    np.testing.assert_array_equal(table.cost_usd, [[np.nan, 0], [np.nan, 0.25]])


WRONG: list[tuple[Any, str]] = [
    ([record(1, 57.0)], ": record 1: 'score': the score 57 of 'a' is outside [0, 1]; say with"),
    ([record(None, 1.0)], ": record 1: 'index': missing; mend the record"),
    ([{"index": 1, "score": 1}], ": record 1: 'prompt': missing; mend the record"),
    ([{"index": 1}], ": 'records': 0: 'score': field required; mend the record"),
    ("none", ": 'records': input should be a valid list; mend the record"),
]


@pytest.mark.parametrize(("records", "problem"), WRONG)
def test_what_is_wrong_with_a_result_is_said_with_its_place(
    importing: Importing, records: Any, problem: str
) -> None:
    src = importing.json(path("a"), result("a", records))

    assert importing.refusal("llmrouterbench", src).startswith(f"{src}{problem}")
