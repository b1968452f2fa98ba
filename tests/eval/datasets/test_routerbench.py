from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from eval.datasets.routerbench import unwrapped

if TYPE_CHECKING:
    from tests.eval.datasets.conftest import Importing

HEADER = (
    ",sample_id,prompt,eval_name,a/b,c,a/b|model_response,c|model_response,a/b|total_cost,"
    "c|total_cost,oracle_model_to_route_to\n"
)


def test_models_are_the_columns_with_costs_and_responses(importing: Importing) -> None:
    src = importing.text(
        "zs.csv",
        HEADER
        + "7,mbpp.1,\"['Write it.']\",mbpp,1.0,0.0,\"['def f(): ...']\",no,0.5,0.25,c\n"
        + '8,mmlu.1,Is it?,mmlu-law,0.5,,"[""It\'s so""]",,0.125,,a/b\n',
    )

    table = importing.table("routerbench", src)

    assert [(q.id, q.prompt, q.category) for q in table.queries] == [
        ("mbpp:mbpp.1", "Write it.", "mbpp"),
        ("mmlu-law:mmlu.1", "Is it?", "mmlu-law"),
    ]
    assert table.names == ("a/b", "c")
    np.testing.assert_array_equal(table.score, [[1, 0], [0.5, np.nan]])
    np.testing.assert_array_equal(table.cost_usd, [[0.5, 0.25], [0.125, np.nan]])
    assert table.texts is not None
    assert table.texts.tolist() == [["def f(): ...", "no"], ["It's so", None]]


@pytest.mark.parametrize(
    ("text", "itself"),
    [
        ("['one', 'two']", "one\ntwo"),
        ("plain", "plain"),
        ("[1, 2]", "[1, 2]"),
        ("['cut off", "['cut off"),
        ("['a'], 3", "['a'], 3"),
        ("['a'] + f()", "['a'] + f()"),
    ],
)
def test_a_text_written_as_a_list_is_unwrapped_and_nothing_else(text: str, itself: str) -> None:
    assert unwrapped(text) == itself


def test_a_files_name_may_say_the_split(importing: Importing) -> None:
    row = "0,s,q,mbpp,1,0,,,0.5,0.5,c\n"
    importing.text("src/mbpp_train.csv", HEADER + row)
    importing.text("src/mbpp_test.csv", HEADER + row.replace("s,q", "t,r"))

    table = importing.table("routerbench", importing.folder / "src")

    assert {query.prompt: query.split for query in table.queries} == {"q": "train", "r": "test"}


def test_two_prompts_of_one_sample_are_refused(importing: Importing) -> None:
    row = "0,s,q,mbpp,1,0,,,0.5,0.5,c\n"
    src = importing.text("x.csv", HEADER + row + row.replace("s,q", "s,r"))

    assert importing.refusal("routerbench", src) == (
        f"{src}:3: 'mbpp:s' is another question than before; mend the ids"
    )


@pytest.mark.parametrize("is_in_folder", [False, True])
def test_a_pickle_is_refused_with_the_way_out(importing: Importing, is_in_folder: bool) -> None:
    file = importing.text("src/routerbench_0shot.pkl", "")

    message = importing.refusal("routerbench", file.parent if is_in_folder else file)

    assert message == (
        f"{file}: a pickle can run any program when it is opened, so none is read here; where you "
        "trust it, export it to CSV: import pandas; "
        "pandas.read_pickle('routerbench_0shot.pkl').to_csv('routerbench_0shot.csv', index=False)"
    )


def test_the_long_table_is_refused(importing: Importing) -> None:
    src = importing.text(
        "raw.csv", "sample_id,prompt,eval_name,performance,model_name\ns,q,mbpp,1,a\n"
    )

    message = importing.refusal("routerbench", src)

    assert message.startswith(f"{src}:1: no column of a model with another '<model>|total_cost'")


def test_a_cost_that_is_no_number_is_named(importing: Importing) -> None:
    src = importing.text("x.csv", HEADER + "0,s,q,mbpp,1,0,,,cheap,0.5,c\n")

    assert importing.refusal("routerbench", src).startswith(
        f"{src}:2: 'a/b|total_cost': 'cheap' is neither True, False nor a number"
    )
