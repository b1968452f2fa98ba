from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tests.eval.datasets.conftest import Importing


def row(query: str, model: str, performance: float | None, **more: Any) -> dict[str, Any]:
    return {
        "task_name": "gsm8k",
        "query": query,
        "ground_truth": "4",
        "metric": "GSM8K",
        "model_name": model,
        "response": f"{model} says",
        "token_num": 30,
        "input_tokens": 20,
        "output_tokens": 10,
        "response_time": 1.5,
        "performance": performance,
        "embedding_id": 0,
    } | more


def test_rows_of_one_query_become_one_query(importing: Importing) -> None:
    src = importing.lines(
        "default_routing_train_data.jsonl",
        [
            row("q", "a", 1.0),
            row("q", "b", 0.0),
            row("r", "a", 0.5),
            row("q", "a", 0.25, task_name="math"),
        ],
    )

    table = importing.table("llmrouter", src)

    assert [(q.prompt, q.category, q.reference, q.split) for q in table.queries] == [
        ("q", "gsm8k", "4", "train"),
        ("r", "gsm8k", "4", "train"),
        ("q", "math", "4", "train"),
    ]
    np.testing.assert_array_equal(table.score, [[1, 0], [0.5, np.nan], [0.25, np.nan]])


def test_tokens_time_and_texts_come_along(importing: Importing) -> None:
    table = importing.table("llmrouter", importing.lines("x.jsonl", [row("q", "a", 1.0)]))

    assert table.prompt_tokens is not None
    assert table.completion_tokens is not None
    assert table.latency_s is not None
    assert table.texts is not None
    assert (table.prompt_tokens[0, 0], table.completion_tokens[0, 0]) == (20, 10)
    assert table.latency_s[0, 0] == 1.5
    assert table.texts[0, 0] == "a says"
    assert table.cost_usd is None


def test_optional_fields_may_be_missing(importing: Importing) -> None:
    src = importing.lines("x.jsonl", [{"query": "q", "model_name": "a", "performance": 1}])

    table = importing.table("llmrouter", src)

    assert table.queries[0].category is None
    assert table.completion_tokens is None


def test_a_call_that_failed_is_missing_and_not_wrong(importing: Importing) -> None:
    src = importing.lines(
        "x.jsonl",
        [row("q", "a", 0.0, response="API Error: timeout"), row("q", "b", 0.0, response="No idea")],
    )

    assert "calls that failed, missing and not wrong: 1" in importing.done("llmrouter", src).stderr
    assert importing.scores("llmrouter", src, "--force") == {"q": {"b": 0}}


def test_a_folder_has_its_routing_data_prices_and_sizes(importing: Importing) -> None:
    importing.lines("src/query_data/default_query_train.jsonl", [{"query": "q", "task_name": "x"}])
    importing.lines("src/routing_data/default_routing_train_data.jsonl", [row("q", "a", 1.0)])
    importing.lines("src/routing_data/default_routing_test_data.jsonl", [row("r", "b", 1.0)])
    importing.json(
        "src/llm_candidates/default_llm.json",
        {
            "a": {"size": "7B", "feature": "small", "input_price": 0.2, "output_price": 0.3},
            "unused": {"size": "70B", "input_price": 0.9, "output_price": 0.9},
        },
    )

    table = importing.table("llmrouter", importing.folder / "src")

    assert [(query.prompt, query.split) for query in table.queries] == [
        ("r", "test"),
        ("q", "train"),
    ]
    assert table.names == ("b", "a")
    assert table.experts[1].params_b == 7
    assert (table.experts[1].input_usd_per_mtok, table.experts[1].output_usd_per_mtok) == (0.2, 0.3)
    assert table.experts[0].input_usd_per_mtok is None


def test_a_line_that_is_wrong_is_named(importing: Importing) -> None:
    src = importing.text(
        "x.jsonl", '{"query": "q", "model_name": "a", "performance": 1}\n\n{"query"\n'
    )
    other = importing.lines("y.jsonl", [{"query": "q", "performance": 1}])

    assert importing.refusal("llmrouter", src).startswith(f"{src}:3: not JSON: ")
    assert importing.refusal("llmrouter", other).startswith(
        f"{other}:1: 'model_name': field required; mend the record"
    )


def test_negative_amounts_are_refused(importing: Importing) -> None:
    src = importing.lines("x.jsonl", [row("q", "a", 1.0, response_time=-1)])

    assert "latency_s -1 of 'a' is no amount" in importing.refusal("llmrouter", src)
