from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from eval.datasets.routellm import score_in

if TYPE_CHECKING:
    from tests.eval.datasets.conftest import Importing

MMLU = (
    'prompt,weak,strong\n"Is 7 prime?\nA. yes\nB. no\nAnswer:",True,False\nHow many?,False,True\n'
)
GSM8K = (
    "prompt,weak,strong,weak_response,strong_response\n"
    '2 + 2?,True,True,"It is 4.\n#### 4",4\n'
    "3 * 3?,False,True,,Nine.\n"
)


def test_true_and_false_of_each_model_become_scores(importing: Importing) -> None:
    src = importing.text("mmlu_logic.csv", MMLU)

    assert importing.scores("routellm", src) == {
        "Is 7 prime?\nA. yes\nB. no\nAnswer:": {"weak": 1, "strong": 0},
        "How many?": {"weak": 0, "strong": 1},
    }


def test_response_columns_are_texts_and_no_models(importing: Importing) -> None:
    table = importing.table("routellm", importing.text("gsm8k_responses.csv", GSM8K))

    assert table.names == ("weak", "strong")
    assert table.texts is not None
    assert table.texts.tolist() == [["It is 4.\n#### 4", "4"], ["", "Nine."]]


def test_texts_can_be_left_out(importing: Importing) -> None:
    src = importing.text("gsm8k_responses.csv", GSM8K)

    assert importing.table("routellm", src, "--no-texts").texts is None
    assert not (importing.dest / "responses.jsonl.gz").exists()


def test_a_files_name_is_the_category(importing: Importing) -> None:
    importing.text("src/responses/mmlu_logic.csv", MMLU)
    importing.text("src/gsm8k_responses.csv", GSM8K)

    table = importing.table("routellm", importing.folder / "src")

    assert [query.category for query in table.queries] == [
        "gsm8k_responses",
        "gsm8k_responses",
        "mmlu_logic",
        "mmlu_logic",
    ]


def test_contaminated_prompts_are_flagged(importing: Importing) -> None:
    importing.text("src/gsm8k.csv", GSM8K)
    importing.lines("src/contaminated_prompts.jsonl", [{"eval_prompt": "3 * 3?", "train_idx": 7}])

    table = importing.table("routellm", importing.folder / "src")

    assert {query.prompt: set(query.flags) for query in table.queries} == {
        "2 + 2?": set(),
        "3 * 3?": {"contaminated"},
    }


def test_row_numbers_of_pandas_are_no_model_and_neither_is_a_byte_order_mark(
    importing: Importing,
) -> None:
    src = importing.text("a.csv", "\ufeffprompt,Unnamed: 0,m\nq,0,True\n")
    other = importing.text("b.csv", ",prompt,m\n0,q,True\n")

    assert importing.scores("routellm", src) == {"q": {"m": 1}}
    assert importing.scores("routellm", other, "--force") == {"q": {"m": 1}}


def test_fields_may_be_longer_than_pythons_own_limit(importing: Importing) -> None:
    prompt = "long " * 40_000

    assert list(
        importing.scores("routellm", importing.text("a.csv", f"prompt,m\n{prompt},1\n"))
    ) == [prompt]


def test_empty_fields_and_nan_are_missing_cells(importing: Importing) -> None:
    src = importing.text("a.csv", "prompt,m,n\nq,,True\nr,nan,0.25\n\n")

    result = importing.done("routellm", src)

    assert "outcomes without a score, missing: 2" in result.stderr
    assert "models without any score, left out: 1" in result.stderr
    assert importing.scores("routellm", src, "--force") == {"q": {"n": 1}, "r": {"n": 0.25}}


def test_equal_rows_are_merged_and_counted(importing: Importing) -> None:
    src = importing.text("a.csv", "prompt,m\nq,True\nr,False\nq,True\n")

    assert "equal outcomes of one cell, merged: 1" in importing.done("routellm", src).stderr
    assert importing.scores("routellm", src, "--force") == {"q": {"m": 1}, "r": {"m": 0}}


def test_two_scores_for_one_cell_are_refused_where_the_second_stands(importing: Importing) -> None:
    src = importing.text("a.csv", 'prompt,m\n"q\nq",True\nr,False\n"q\nq",False\n')

    message = importing.refusal("routellm", src)

    assert message == (
        f"{src}:5: 'm' has the score 0 here and 1 before, for the same query; mend the file, or "
        "keep the first with --keep-first"
    )


def test_the_first_of_two_scores_can_be_kept(importing: Importing) -> None:
    src = importing.text("a.csv", "prompt,m\nq,True\nr,False\nq,False\n")

    result = importing.done("routellm", src, "--keep-first")

    assert "other scores of one cell, the first kept: 1" in result.stderr
    assert importing.scores("routellm", src, "--keep-first", "--force")["q"] == {"m": 1}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("question,m\nq,True\n", "1: no column 'prompt' among ['question', 'm']; mend the record"),
        ("prompt,m\nq,perhaps\n", "2: 'm': 'perhaps' is neither True, False nor a number"),
        ("prompt,m\nq,87.5\n", "2: the score 87.5 of 'm' is outside [0, 1]; say with --scale"),
        ("prompt,m\nq,-1\n", "2: the score -1 of 'm' is outside [0, 1]"),
        ("prompt,m\nq,inf\n", "2: the score inf of 'm' is outside [0, 1]"),
        ("prompt,m\nq,True\nr\n", "3: 1 fields where the header has 2; mend the row"),
        ("prompt,m,m\nq,True,True\n", "1: two columns 'm'; take one out"),
        ('prompt,m\nq,"True\n', "2: unexpected end of data; mend the quotes"),
        ("prompt,m\n", " no row; is it the right file, and whole?"),
        ("", " no row; is it the right file, and whole?"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_with_its_place(
    importing: Importing, text: str, problem: str
) -> None:
    src = importing.text("a.csv", text)

    assert importing.refusal("routellm", src).startswith(f"{src}:{problem}")


def test_a_table_of_prompts_alone_holds_no_score(importing: Importing) -> None:
    src = importing.text("a.csv", "prompt\nq\n")

    assert importing.refusal("routellm", src) == f"{src}: no score at all; is it the right file?"


def test_scores_out_of_ten_are_divided_by_ten(importing: Importing) -> None:
    src = importing.text("a.csv", "prompt,m\nq,8.5\n")

    assert importing.scores("routellm", src, "--scale", "10") == {"q": {"m": 0.85}}


@pytest.mark.parametrize(("text", "score"), [(" TRUE", 1.0), ("false", 0.0), ("0.5", 0.5)])
def test_a_field_is_read_without_regard_to_case(text: str, score: float) -> None:
    assert score_in("here", text) == score
