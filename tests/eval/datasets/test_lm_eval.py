from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.eval.datasets.conftest import Importing

STAMP = "2025-01-16T15-23-47.285735"


def generated(doc_id: int, score: float, text: str, answer: str, **more: Any) -> dict[str, Any]:
    """A sample of a task whose answers are written."""
    return {
        "doc_id": doc_id,
        "doc": {"question": f"question {doc_id}", "answer": "4"},
        "target": "4",
        "arguments": {
            "gen_args_0": {"arg_0": f"Q: question {doc_id}\nA:", "arg_1": {"until": "Q:"}}
        },
        "resps": [[text]],
        "filtered_resps": [answer],
        "filter": "strict-match",
        "metrics": ["exact_match"],
        "doc_hash": f"hash {doc_id}",
        "exact_match": score,
    } | more


def chosen(doc_id: int, score: float, **more: Any) -> dict[str, Any]:
    """A sample of a task whose options are scored."""
    return {
        "doc_id": doc_id,
        "doc": {"query": "sky?"},
        "target": 1,
        "arguments": [["The sky is", " blue"], ["The sky is", " red"]],
        "resps": [[["-1.5", "False"]], [["-2.5", "False"]]],
        "filtered_resps": [["-1.5", "False"], ["-2.5", "False"]],
        "acc": score,
        "acc_norm": 1.0 - score,
    } | more


@pytest.fixture
def runs(importing: Importing) -> Path:
    """Two models on one task; only one of them says in a file what it is called."""
    importing.json(f"runs/org__small/results_{STAMP}.json", {"model_name": "org/small__v2"})
    importing.lines(
        f"runs/org__small/samples_gsm8k_cot_{STAMP}.jsonl",
        [generated(0, 1.0, "So 4.", "4"), generated(1, 0.0, "Hm", "[invalid]")],
    )
    importing.lines(
        f"runs/org__large/samples_gsm8k_cot_{STAMP}.jsonl", [generated(0, 1.0, "4!", "4")]
    )
    return importing.folder / "runs"


def test_each_folder_is_a_model_and_each_file_a_task(importing: Importing, runs: Path) -> None:
    table = importing.table("lm-eval", runs)

    assert table.names == ("org/large", "org/small__v2")
    assert [(q.id, q.prompt, q.category, q.reference) for q in table.queries] == [
        ("gsm8k_cot:0", "Q: question 0\nA:", "gsm8k_cot", "4"),
        ("gsm8k_cot:1", "Q: question 1\nA:", "gsm8k_cot", "4"),
    ]
    np.testing.assert_array_equal(table.score, [[1, 1], [np.nan, 0]])


def test_texts_and_extracted_answers_come_along(importing: Importing, runs: Path) -> None:
    table = importing.table("lm-eval", runs)

    assert table.texts is not None
    assert table.answers is not None
    assert table.texts[:, 1].tolist() == ["So 4.", "Hm"]
    assert [table.answers.value(0, 1), table.answers.value(1, 1)] == ["4", None]


def test_options_that_are_scored_have_neither_text_nor_answer(importing: Importing) -> None:
    src = importing.lines(f"m/samples_arc_{STAMP}.jsonl", [chosen(0, 1.0)])

    table = importing.table("lm-eval", src)

    assert table.score.tolist() == [[1]]
    assert table.queries[0].prompt == "The sky is"
    assert (table.queries[0].reference, table.texts, table.answers) == ("1", None, None)


def test_a_response_that_no_filter_touched_is_no_answer(importing: Importing) -> None:
    sample = generated(0, 1.0, "So 4.", "So 4.", filter="none")

    table = importing.table("lm-eval", importing.lines(f"m/samples_t_{STAMP}.jsonl", [sample]))

    assert table.answers is None


def test_the_newest_file_of_a_task_counts(importing: Importing, runs: Path) -> None:
    importing.lines(
        "runs/org__large/samples_gsm8k_cot_2024-12-31T00-00-00.000001.jsonl",
        [generated(0, 0.0, "3!", "3")],
    )

    assert importing.scores("lm-eval", runs)["Q: question 0\nA:"]["org/large"] == 1


def test_the_metric_can_be_named(importing: Importing) -> None:
    src = importing.lines(f"m/samples_arc_{STAMP}.jsonl", [chosen(0, 1.0)])

    flags = ("--metric", "f1", "--metric", "acc_norm")

    assert importing.scores("lm-eval", src, *flags) == {"The sky is": {"m": 0}}


def test_a_metric_that_was_not_logged_is_met_with_those_that_were(importing: Importing) -> None:
    src = importing.lines(f"m/samples_arc_{STAMP}.jsonl", [chosen(0, 1.0)])

    assert importing.refusal("lm-eval", src, "--metric", "f1") == (
        f"{src}:1: none of the metrics ['f1']; choose from ['acc', 'acc_norm']"
    )


def test_a_metric_that_is_no_number_is_refused(importing: Importing) -> None:
    src = importing.lines(f"m/samples_ner_{STAMP}.jsonl", [chosen(0, 1.0, f1=["DATE", ["x"]])])

    message = importing.refusal("lm-eval", src, "--metric", "f1")

    assert message.startswith(f"{src}:1: 'f1': no number, but")


def test_several_filters_must_be_chosen_from(importing: Importing) -> None:
    src = importing.lines(
        f"m/samples_gsm8k_{STAMP}.jsonl",
        [
            generated(0, 0.0, "So 4.", "[invalid]"),
            generated(0, 1.0, "So 4.", "4", filter="flexible-extract"),
        ],
    )

    assert importing.refusal("lm-eval", src) == (
        f"{src}: scored by the filters ['strict-match', 'flexible-extract']; "
        "choose one with --filter"
    )
    assert importing.scores("lm-eval", src, "--filter", "flexible-extract") == {
        "Q: question 0\nA:": {"m": 1}
    }


def test_a_task_of_one_filter_does_not_mind_which_was_chosen(
    importing: Importing, runs: Path
) -> None:
    assert importing.scores("lm-eval", runs, "--filter", "flexible-extract")


def test_the_documents_question_can_be_the_prompt(importing: Importing, runs: Path) -> None:
    scores = importing.scores("lm-eval", runs, "--question", "question")

    assert list(scores) == ["question 0", "question 1"]


def test_a_field_that_the_document_lacks_is_met_with_those_it_has(
    importing: Importing, runs: Path
) -> None:
    message = importing.refusal("lm-eval", runs, "--question", "problem")

    assert message.endswith(
        "'doc': no text 'problem' among ['answer', 'question']; choose another field with "
        "--question"
    )


def test_samples_without_arguments_need_a_question(importing: Importing) -> None:
    src = importing.lines(f"m/samples_t_{STAMP}.jsonl", [chosen(0, 1.0, arguments=None)])

    assert (
        "'arguments': no prompt; name the document's field with --question, one of ['query']"
        in (importing.refusal("lm-eval", src))
    )


def test_runs_that_asked_different_questions_are_refused(importing: Importing, runs: Path) -> None:
    importing.lines(
        f"runs/z/samples_gsm8k_cot_{STAMP}.jsonl", [generated(0, 1.0, "", "", doc_hash="other")]
    )

    assert "'gsm8k_cot:0' is another question than before" in importing.refusal("lm-eval", runs)


def test_a_folder_without_samples_is_refused(importing: Importing) -> None:
    importing.json("runs/m/results.json", {})

    assert importing.refusal("lm-eval", importing.folder / "runs").endswith(
        "no file samples_*.jsonl; name their folder"
    )
