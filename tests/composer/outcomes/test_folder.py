from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from composer.errors import ConfigError
from composer.outcomes import (
    NOT_EXTRACTED,
    NOT_RECORDED,
    RecordedExpert,
    RecordedQuery,
    read_folder,
)
from composer.types import Annotation

NAN = np.nan


def refusal(folder: Path, **options: Any) -> str:
    with pytest.raises(ConfigError) as raised:
        read_folder(folder, **options)
    message = str(raised.value)
    assert "\n" not in message
    return message


def outcome(**keys: Any) -> dict[str, Any]:
    return {"query_id": "sky", "model": "bea", "score": 1, **keys}


def test_a_folder_is_read_with_its_queries_and_models(folder: Path):
    table = read_folder(folder)

    assert table.name == "asked"
    assert table.queries == (
        RecordedQuery("sum", "2 + 2?", "train", "maths", "4"),
        RecordedQuery("sky", "The sky's colour?", "test", "nature"),
        RecordedQuery("odd", "Is 3 odd?", "test", flags=frozenset({"contaminated"})),
    )
    assert table.experts == (RecordedExpert("ann", 7.5, 0.25, 0.5), RecordedExpert("bea"))


def test_annotations_types_and_descriptions_are_read_where_there_are_any(
    folder: Path, append: Callable[..., None]
):
    row = {
        "id": "ant",
        "prompt": "Six legs?",
        "split": "train",
        "annotation": {"skills": ["bugs"]},
        "answer_type": "yes_no",
    }
    append("queries.jsonl.gz", row)
    models = [{"name": "ann", "description": "Knows insects."}, {"name": "bea"}]
    (folder / "models.json").write_text(json.dumps(models), "utf-8")

    table = read_folder(folder)

    assert [query.annotation for query in table.queries] == [None] * 3 + [
        Annotation({"skills": ["bugs"]})
    ]
    assert [query.answer_type for query in table.queries] == [None] * 3 + ["yes_no"]
    assert [expert.description for expert in table.experts] == ["Knows insects.", ""]


def test_an_annotation_that_is_no_object_is_named(folder: Path, append: Callable[..., None]):
    row = {"id": "ant", "prompt": "Six legs?", "split": "train", "annotation": ["bugs"]}
    append("queries.jsonl.gz", row)

    assert "queries.jsonl.gz:4: 'annotation': input should be an object" in refusal(folder)


def test_a_cell_without_an_outcome_is_unknown(folder: Path):
    table = read_folder(folder)

    np.testing.assert_array_equal(table.score, [[1, 0.25], [0, NAN], [NAN, 1]])
    assert table.score.dtype == np.float32


def test_an_amount_is_there_where_any_line_has_it(folder: Path):
    table = read_folder(folder)

    np.testing.assert_array_equal(table.cells()["cost_usd"], [[0.5, 0.125], [NAN, NAN], [NAN, NAN]])
    np.testing.assert_array_equal(
        table.cells()["completion_tokens"], [[7, NAN], [NAN, NAN], [NAN, NAN]]
    )
    assert (table.latency_s, table.prompt_tokens) == (None, None)


def test_a_null_answer_was_not_found_and_a_missing_one_not_written_down(folder: Path):
    answers = read_folder(folder).answers

    assert answers is not None
    assert answers.values == ("4", "5")
    np.testing.assert_array_equal(
        answers.codes, [[0, 1], [NOT_EXTRACTED, NOT_RECORDED], [NOT_RECORDED, NOT_RECORDED]]
    )
    assert [answers.value(0, 1), answers.value(1, 0), answers.value(2, 0)] == ["5", None, None]


def test_answers_are_sorted_whatever_the_order_of_the_lines(
    folder: Path, append: Callable[..., None]
):
    append("outcomes.jsonl.gz", outcome(answer="10"))

    answers = read_folder(folder).answers

    assert answers is not None
    assert answers.values == ("10", "4", "5")
    assert (answers.value(0, 0), answers.value(1, 1)) == ("4", "10")


def test_no_answers_are_there_where_no_line_has_one(folder: Path):
    lines = [json.dumps(outcome(model=model)).encode() for model in ("ann", "bea")]
    (folder / "outcomes.jsonl.gz").write_bytes(gzip.compress(b"\n".join(lines)))

    assert read_folder(folder).answers is None


def test_a_partial_model_is_the_last_column_where_it_is_asked_for(folder: Path):
    table = read_folder(folder, partial=True)

    assert table.names == ("ann", "bea", "eve")
    assert table.experts[2] == RecordedExpert("eve", 1.0, is_partial=True)
    np.testing.assert_array_equal(table.score[:, 2], [NAN, 0.5, NAN])


def test_texts_are_read_where_they_are_asked_for(folder: Path):
    table = read_folder(folder, texts=True)

    assert table.texts is not None
    assert table.texts.tolist() == [["It is 4.", ""], [None, None], [None, None]]
    assert read_folder(folder).texts is None


def test_texts_of_partial_models_come_with_them(folder: Path):
    table = read_folder(folder, partial=True, texts=True)

    assert table.texts is not None
    assert table.texts[1].tolist() == [None, None, "Blue."]


def test_a_folder_without_texts_has_none(folder: Path):
    (folder / "responses.jsonl.gz").unlink()

    assert read_folder(folder, texts=True).texts is None


def test_every_key_in_brackets_may_be_null(folder: Path, append: Callable[..., None]):
    nothing = dict.fromkeys(["category", "reference", "in_train", "contaminated"])
    append("queries.jsonl.gz", {"id": "new", "prompt": "?", "split": "train", **nothing})
    nothing = dict.fromkeys(["cost", "tokens_in", "tokens_out", "latency_s"])
    append("outcomes.jsonl.gz", outcome(**nothing))
    nothing = dict.fromkeys(["params_b", "price_in", "price_out", "partial"])
    models = [{"name": name, **nothing} for name in ("ann", "bea")]
    (folder / "models.json").write_text(json.dumps(models), "utf-8")

    table = read_folder(folder)

    assert table.queries[3] == RecordedQuery("new", "?", "train")
    assert table.experts == (RecordedExpert("ann"), RecordedExpert("bea"))
    assert table.score[1, 1] == 1


def test_numbers_where_texts_belong_are_read_as_their_digits(
    folder: Path, append: Callable[..., None]
):
    append("queries.jsonl.gz", {"id": 7, "prompt": 8, "split": "train", "category": 9})
    append("outcomes.jsonl.gz", outcome(query_id=7, answer=10))

    table = read_folder(folder)

    assert table.queries[3] == RecordedQuery("7", "8", "train", "9")
    assert table.answers is not None
    assert table.answers.value(3, 1) == "10"


@pytest.mark.parametrize(("reference", "said"), [(4, "4"), (["é", None], '["é", null]')])
def test_a_reference_that_is_no_text_is_kept_as_json(
    folder: Path, append: Callable[..., None], reference: object, said: str
):
    append(
        "queries.jsonl.gz", {"id": "new", "prompt": "?", "split": "train", "reference": reference}
    )

    assert read_folder(folder).queries[3].reference == said


def test_both_flags_are_kept(folder: Path, append: Callable[..., None]):
    flags = {"in_train": True, "contaminated": True}
    append("queries.jsonl.gz", {"id": "new", "prompt": "?", "split": "test", **flags})

    assert read_folder(folder).queries[3].flags == flags.keys()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"query_id": "sky", ', "invalid JSON: "),
        (b"[]", "input should be an object; mend the line"),
        (b'{"query_id": "\xff"}', "invalid JSON: "),
        ({"query_id": "sky", "model": "bea"}, "'score': field required; mend the line"),
        ({"model": "bea", "score": 1}, "'query_id': field required; mend the line"),
        (outcome(score=1.01), "'score': input should be less than or equal to 1; mend the line"),
        (outcome(score=-1), "'score': input should be greater than or equal to 0; mend the line"),
        (outcome(score=True), "'score': input should be a valid number; mend the line"),
        (outcome(score="1"), "'score': input should be a valid number; mend the line"),
        (outcome(score=None), "'score': input should be a valid number; mend the line"),
        (outcome(score=NAN), "'score': input should be a finite number; mend the line"),
        (outcome(cost=-0.1), "'cost': input should be greater than or equal to 0; mend the line"),
        (
            outcome(cost=1e39),
            "'cost': input should be less than or equal to 1000000000000000; mend",
        ),
        (outcome(tokens_in="9"), "'tokens_in': input should be a valid number; mend the line"),
        (outcome(answer=["4"]), "'answer': input should be a valid string; mend the line"),
        (
            outcome(query_id="sum", model="bea"),
            "'model': 'bea' is there for 'sum' already; leave one",
        ),
        (
            outcome(query_id="skye"),
            "'query_id': 'skye' is not in queries.jsonl.gz; add it there",
        ),
        (
            outcome(model="beb"),
            "'model': models.json has no model 'beb'; did you mean 'bea'? "
            "choose from ['ann', 'bea', 'eve']",
        ),
        (
            outcome(model="eve"),
            "'model': 'eve' belongs in outcomes_partial.jsonl.gz; move the line",
        ),
    ],
)
def test_a_wrong_outcome_is_named_by_file_line_and_field_with_the_remedy(
    folder: Path, append: Callable[..., None], line: Any, said: str
):
    append("outcomes.jsonl.gz", b"", line)

    assert refusal(folder).startswith(f"{folder}/outcomes.jsonl.gz:6: {said}")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"id": "new", "prompt": "?"}, "'split': field required; mend the line"),
        ({"id": "", "prompt": "?", "split": "test"}, "'id': string should have at least 1"),
        ({"id": "new", "prompt": None, "split": "test"}, "'prompt': input should be a valid"),
        (
            {"id": "new", "prompt": "?", "split": "test", "in_train": "perhaps"},
            "'in_train': input should be a valid boolean",
        ),
        (
            {"id": "sky", "prompt": "?", "split": "test"},
            "'id': 'sky' stands there twice; leave one",
        ),
    ],
)
def test_a_wrong_query_is_named(folder: Path, append: Callable[..., None], line: Any, said: str):
    append("queries.jsonl.gz", line)

    assert refusal(folder).startswith(f"{folder}/queries.jsonl.gz:4: {said}")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"query_id": "sum", "model": "ann"}, "'response': field required; mend the line"),
        (
            {"query_id": "sum", "model": "ann", "response": "4!"},
            "'model': 'ann' is there for 'sum' already; leave one",
        ),
        ({"query_id": "new", "model": "ann", "response": ""}, "'query_id': 'new' is not in"),
        ({"query_id": "sum", "model": "joe", "response": ""}, "'model': models.json has no model"),
    ],
)
def test_a_wrong_text_is_named(folder: Path, append: Callable[..., None], line: Any, said: str):
    append("responses.jsonl.gz", line)

    message = refusal(folder, texts=True)

    assert message.startswith(f"{folder}/responses.jsonl.gz:5: {said}")
    assert read_folder(folder).texts is None


def test_a_line_of_a_whole_model_is_wrong_among_the_partial_ones(
    folder: Path, append: Callable[..., None]
):
    append("outcomes_partial.jsonl.gz", outcome())

    message = refusal(folder, partial=True)

    assert message == (
        f"{folder}/outcomes_partial.jsonl.gz:2: "
        "'model': 'bea' belongs in outcomes.jsonl.gz; move the line"
    )


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ("[{", "invalid JSON: "),
        ("{}", "input should be a valid "),
        ("[]", "no model; a table needs at least one"),
        ('[{"name": "ann"}, {}]', "1: 'name': field required; mend the file"),
        ('[{"name": "ann", "price_in": -1}]', "0: 'price_in': input should be greater than or"),
        ('[{"name": "ann"}, {"name": "ann"}]', "model 'ann' stands there twice; leave one"),
        ('[{"name": "eve", "partial": true}]', "every model is partial; ask for those as well"),
    ],
)
def test_what_is_wrong_with_the_models_is_said(folder: Path, models: str, said: str):
    (folder / "models.json").write_text(models, "utf-8")

    assert refusal(folder).startswith(f"{folder}/models.json: {said}")


@pytest.mark.parametrize("name", ["models.json", "queries.jsonl.gz", "outcomes.jsonl.gz"])
def test_a_missing_file_is_named(folder: Path, name: str):
    (folder / name).unlink()

    assert refusal(folder) == f"no file '{folder / name}'; recorded data needs it"


@pytest.mark.parametrize("name", ["models.json", "queries.jsonl.gz", "outcomes.jsonl.gz"])
def test_a_folder_where_a_file_belongs_is_named(folder: Path, name: str):
    (folder / name).unlink()
    (folder / name).mkdir()

    assert refusal(folder).startswith(f"{folder / name}: cannot be read (")


def test_a_missing_folder_is_named(tmp_path: Path):
    message = refusal(tmp_path / "nowhere")

    assert message == f"no folder '{tmp_path}/nowhere'; name one with queries.jsonl.gz"


@pytest.mark.parametrize(
    "name",
    [
        "queries.jsonl.gz",
        "outcomes.jsonl.gz",
        "outcomes_partial.jsonl.gz",
        "responses.jsonl.gz",
    ],
)
@pytest.mark.parametrize("fault", ["cut", "plain", "spoilt"])
def test_a_file_that_is_not_whole_gzip_is_named(folder: Path, name: str, fault: str):
    whole = (folder / name).read_bytes()
    broken = {"cut": whole[:-9], "plain": b"{}\n", "spoilt": whole[:12] + b"\xff" * len(whole)}
    (folder / name).write_bytes(broken[fault])

    message = refusal(folder, partial=True, texts=True)

    assert message.startswith(f"{folder / name}: cannot be read (")
    assert message.endswith("; is it whole, and gzip?")


def test_a_folder_without_a_query_is_no_table(folder: Path):
    (folder / "queries.jsonl.gz").write_bytes(gzip.compress(b"\n"))

    said = "no query; a table needs at least one"
    assert refusal(folder) == f"{folder}/queries.jsonl.gz: {said}"


@pytest.mark.parametrize("name", ["ann", "eve"])
def test_a_model_without_an_outcome_is_named(folder: Path, name: str):
    for file in (folder / "outcomes.jsonl.gz", folder / "outcomes_partial.jsonl.gz"):
        lines = gzip.decompress(file.read_bytes()).splitlines()
        others = [line for line in lines if json.loads(line)["model"] != name]
        file.write_bytes(gzip.compress(b"\n".join(others)))

    message = refusal(folder, partial=True)

    assert message == f"{folder}/models.json: model {name!r} has no outcome; take it out"


def test_who_collects_problems_gets_all_of_them_and_a_table_of_the_rest(
    folder: Path, append: Callable[..., None]
):
    append("queries.jsonl.gz", {"id": "new"}, {"id": "sun", "prompt": "?", "split": "ood"})
    append("outcomes.jsonl.gz", b"}", outcome(score=2), outcome(model="joe"), outcome())
    models = [{"name": name} for name in ("ann", "bea", "eve")]
    (folder / "models.json").write_text(json.dumps(models), "utf-8")
    problems: list[str] = []

    table = read_folder(folder, on_problem=problems.append)

    assert [problem.split(": ")[0].rpartition("/")[2] for problem in problems] == [
        "queries.jsonl.gz:4",
        "outcomes.jsonl.gz:5",
        "outcomes.jsonl.gz:6",
        "outcomes.jsonl.gz:7",
        "models.json",
    ]
    assert [query.id for query in table.queries] == ["sum", "sky", "odd", "sun"]
    np.testing.assert_array_equal(table.score[1], [0, 1, NAN])
