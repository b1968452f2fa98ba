from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tests.eval.datasets.conftest import Importing


def query(text: str, records: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"query": text, "dataset": "aime", "records": records, "index": 0} | more


def test_a_list_of_right_and_wrong_becomes_scores(importing: Importing) -> None:
    src = importing.json(
        "data.json",
        [
            query("q", {"a": True, "b": False}, frequency={"a": 0.9, "b": 0.2}),
            query("r", {"b": 1, "a": 0.5}, dataset="bbh"),
        ],
    )

    table = importing.table("avengers", src)

    assert [(q.prompt, q.category) for q in table.queries] == [("q", "aime"), ("r", "bbh")]
    assert table.names == ("a", "b")
    assert table.score.tolist() == [[1, 0], [0.5, 1]]


def test_usages_are_costs_and_tokens(importing: Importing) -> None:
    usages = {
        "a": {"cost": 0.5, "prompt_tokens": 8, "completion_tokens": 4},
        "b": {"cost": float("nan")},
        "c": None,
    }
    src = importing.lines("x.jsonl", [query("q", {"a": 1, "b": 1, "c": 1}, usages=usages)])

    table = importing.table("avengers", src)

    np.testing.assert_array_equal(table.cost_usd, [[0.5, np.nan, np.nan]])
    np.testing.assert_array_equal(table.prompt_tokens, [[8, np.nan, np.nan]])
    np.testing.assert_array_equal(table.completion_tokens, [[4, np.nan, np.nan]])


def test_cells_filled_in_for_models_not_asked_are_missing(importing: Importing) -> None:
    filled = {"cost": 0.0, "prompt_tokens": 0, "completion_tokens": 0}
    asked = {"cost": 0.1, "prompt_tokens": 9, "completion_tokens": 0}
    src = importing.lines(
        "x.jsonl", [query("q", {"a": 0.0, "b": 0.0}, usages={"a": filled, "b": asked})]
    )

    assert (
        "cells filled in for models that were not asked, missing: 1"
        in importing.done("avengers", src).stderr
    )
    assert importing.scores("avengers", src, "--force") == {"q": {"b": 0}}


def test_files_of_train_and_test_are_splits_and_other_json_is_passed_over(
    importing: Importing,
) -> None:
    importing.lines("src/train.jsonl", [query("q", {"a": 1})])
    importing.lines("src/test.jsonl", [query("r", {"a": 1})])
    importing.json("src/baseline_scores.json", {"a": {"aime": 50.0}})

    table = importing.table("avengers", importing.folder / "src")

    assert {query.prompt: query.split for query in table.queries} == {"q": "train", "r": "test"}


def test_a_line_without_records_is_named(importing: Importing) -> None:
    src = importing.lines("x.jsonl", [query("q", {"a": 1}), {"query": "r"}])

    assert importing.refusal("avengers", src).startswith(f"{src}:2: 'records': field required")


def test_a_test_split_alone_is_said_to_fit_no_router(importing: Importing) -> None:
    src = importing.lines("test.jsonl", [query("q", {"a": 1})])

    assert "no query is in `train`" in importing.done("avengers", src).stderr
