from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.eval.datasets.conftest import Importing


def question(text: str, scores: Any) -> dict[str, Any]:
    return {"question": text, "scores": scores, "cluster_id": 3}


def test_scores_belong_to_names_and_not_to_places(importing: Importing) -> None:
    src = importing.json(
        "gsm8k-train.json",
        [question("q", {"a": 0.1, "b": 0.9}), question("r", {"b": 0.8, "a": 0.2})],
    )

    assert importing.scores("routerdc", src) == {
        "q": {"a": 0.1, "b": 0.9},
        "r": {"a": 0.2, "b": 0.8},
    }


def test_files_say_category_and_split_and_those_without_a_split_are_ood(
    importing: Importing,
) -> None:
    importing.json("src/gsm8k-train.json", [question("q", {"a": 1})])
    importing.json("src/gsm8k-test.json", [question("r", {"a": 1})])
    importing.json("src/MATH_prealgebra.json", [question("s", {"a": 0})])

    result = importing.done("routerdc", importing.folder / "src")
    table = importing.table("routerdc", importing.folder / "src", "--force")

    assert {query.prompt: (query.category, query.split) for query in table.queries} == {
        "q": ("gsm8k", "train"),
        "r": ("gsm8k", "test"),
        "s": ("MATH_prealgebra", "ood"),
    }
    assert "files without a split beside such as have one: `ood`" in result.stderr


def test_a_question_of_train_and_test_is_two_queries(importing: Importing) -> None:
    importing.json("src/mmlu_train.json", [question("q", {"a": 0.3})])
    importing.json("src/mmlu_test.json", [question("q", {"a": 0.4})])

    table = importing.table("routerdc", importing.folder / "src")

    assert sorted(query.split for query in table.queries) == ["test", "train"]
    assert len({query.id for query in table.queries}) == 2


def test_probabilities_above_0_count_as_right_in_the_categories_named(
    importing: Importing,
) -> None:
    importing.json("src/mmlu_train.json", [question("q", {"a": 0.3, "b": 0})])
    importing.json("src/gsm8k-train.json", [question("r", {"a": 0.3, "b": 0})])

    scores = importing.scores("routerdc", importing.folder / "src", "--binarise", "mmlu")

    assert scores == {"q": {"a": 1, "b": 0}, "r": {"a": 0.3, "b": 0}}


def test_a_category_that_there_is_not_is_met_with_a_suggestion(importing: Importing) -> None:
    src = importing.json("mmlu_train.json", [question("q", {"a": 0.3})])

    message = importing.refusal("routerdc", src, "--binarise", "mmul")

    assert message == "--binarise: no category 'mmul'; did you mean 'mmlu'? choose from ['mmlu']"


def test_null_and_nan_are_missing_cells(importing: Importing) -> None:
    src = importing.text("x.json", '[{"question": "q", "scores": {"a": null, "b": NaN, "c": 1}}]')

    assert importing.scores("routerdc", src) == {"q": {"c": 1}}


def test_models_that_were_not_asked_everything_stay_in_the_table(importing: Importing) -> None:
    src = importing.json("x.json", [question("q", {"a": 1, "b": 0}), question("r", {"a": 1})])

    table = importing.table("routerdc", src)

    assert table.names == ("a", "b")
    assert not (importing.dest / "outcomes_partial.jsonl.gz").exists()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[{"question": "q", "scores": {"a": 1}},\n {"question"', ": not JSON: EOF while parsing"),
        ('[{"question": "q"}]', ": record 1: 'scores': field required; mend the record"),
        ('\n\n[{"question": "q", "scores": {"a": "good"}}]', ": record 1: 'scores': 'a': input sh"),
        ('[{"question": "q", "scores": {"a": 2}}]', ": record 1: 'scores': the score 2 of 'a' is"),
        ("[3]", ": record 1: input should be a valid dictionary"),
        ("[]", ": no record; is it the right file, and whole?"),
        (" \n", ": no record; is it the right file, and whole?"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_place(
    importing: Importing, text: str, problem: str
) -> None:
    src = importing.text("x.json", text)

    assert importing.refusal("routerdc", src).startswith(f"{src}{problem}")
