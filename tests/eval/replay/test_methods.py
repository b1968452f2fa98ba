from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from composer.errors import ConfigError
from eval.replay.methods import ROUTERS, all_methods, cannot_run, make_method, parse, split_names
from routers.encoder import HashingEncoder

if TYPE_CHECKING:
    from tests.eval.replay.conftest import MakeTable, Methods

ENCODER = HashingEncoder(32)

REFUSED = {
    "oracel": "no method 'oracel'; did you mean 'oracle'? choose from [",
    "vote-majorty": "no method 'vote-majorty'; did you mean 'vote-majority'? choose from [",
    "neighbours[k=5": "cannot read the method 'neighbours[k=5'; write name or name[setting=value",
    "neighbours]": "cannot read the method 'neighbours]'; write name or",
    "neighbours[k]": "cannot read 'k' in 'neighbours[k]'; write setting=value",
    "neighbours[k=*x]": "cannot read '*x' in 'neighbours[k=*x]'; give a number or a word",
    "neighbours[k={]": "cannot read '{' in 'neighbours[k={]'; give a number or a word",
    "neighbours[kay=5]": "router 'neighbours' has no setting 'kay'; ",
    "neighbours[k=0]": "router 'neighbours': 'k' is 0; give ",
    "prior[k=1]": "router 'prior' has no setting 'k'; it takes none",
    "random[seed=1]": "method 'random' takes no settings; write 'random' alone",
    "oracle[]": "method 'oracle' takes no settings; write 'oracle' alone",
    "fixed": "method 'fixed' needs one setting: fixed[expert=NAME]",
    "fixed[name=ann]": "method 'fixed' needs one setting: fixed[expert=NAME]",
    "vote-majority[k=0]": "method 'vote-majority[k=0]': 'k' is 0; give a whole number from 1",
    "vote-majority[k=1.5]": "'k' is 1.5; give a whole number from 1, or 'all'",
    "vote-majority[k=true]": "'k' is True; give a whole number from 1, or 'all'",
    "vote-majority[kay=3]": "aggregator 'vote' has no setting 'kay'; ",
    "vote-majority[answer_type=letter]": "setting 'answer_type' cannot be 'letter'",
    "neighbours+vote": "no aggregator to replay 'vote'; choose from ['vote-learned', ",
    "neighbours+": "cannot read the method ''; write name or",
    "neighbour+vote-majority": "no router 'neighbour'; did you mean 'neighbours'?",
    "oracle+vote-majority": "method 'oracle+vote-majority': no router 'oracle'; choose from [",
    "vote-majority+neighbours": "no router 'vote-majority'; choose from [",
}
"""A method's name, and what is said of it."""


@pytest.mark.parametrize("name", REFUSED)
def test_a_name_that_is_no_method_is_met_with_one_line(name: str):
    with pytest.raises(ConfigError) as refusal:
        make_method(name, ENCODER)

    assert REFUSED[name] in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "name", "settings"),
    [
        ("neighbours", "neighbours", {}),
        ("neighbours[]", "neighbours", {}),
        ("neighbours[k=40,targets=successes]", "neighbours", {"k": 40, "targets": "successes"}),
        ("x-y[ a = .5 , b=all]", "x-y", {"a": 0.5, "b": "all"}),
    ],
)
def test_settings_stand_in_brackets(text: str, name: str, settings: dict[str, Any]):
    assert parse(text) == (name, settings)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", []),
        (" random , oracle,", ["random", "oracle"]),
        ("a[k=1,j=2],b+c[k=3,j=4],d", ["a[k=1,j=2]", "b+c[k=3,j=4]", "d"]),
        ("fixed[expert=org/a+b],oracle", ["fixed[expert=org/a+b]", "oracle"]),
    ],
)
def test_commas_inside_brackets_do_not_separate(text: str, names: list[str]):
    assert split_names(text) == names


@pytest.mark.parametrize("expert", ["1.10", "yes", "org/a+b", "007", "2024-01-01"])
def test_a_fixed_expert_is_called_as_it_is_written(make_table: MakeTable, expert: str):
    method = make_method(f"fixed[ expert = {expert} ]", ENCODER)

    assert method.name == f"fixed[expert={expert}]"


def test_all_methods_stand_on_the_ladder_in_its_order(make_table: MakeTable):
    names = all_methods(make_table("train - 1 0", answers=["A B"]))
    position = ROUTERS.index("neighbours")

    assert names == [
        "random",
        "best-single",
        "category-expert",
        *ROUTERS[:position],
        "neighbours",
        "neighbours[targets=successes]",
        *ROUTERS[position + 1 :],
        "vote-majority",
        "vote-majority[k=all]",
        "vote-weighted",
        "vote-learned",
        "vote-learned[quorum=exact]",
        "vote-learned[quorum=posterior]",
        *(f"{router}+vote-majority" for router in ROUTERS),
        "category-hindsight",
        "oracle",
    ]
    assert [make_method(name, ENCODER).name for name in names] == names


def test_no_aggregator_is_among_all_methods_of_a_table_without_answers(make_table: MakeTable):
    assert not any("vote" in name for name in all_methods(make_table("train - 1 0")))


def test_what_reads_answers_cannot_run_without_any(make_table: MakeTable, methods: Methods):
    asked = methods("neighbours", "vote-majority", "prior+vote-majority[k=5]", "oracle")

    assert cannot_run(asked, make_table("train - 1 0")) == {
        "vote-majority": "no answers are recorded",
        "prior+vote-majority[k=5]": "no answers are recorded",
    }


@pytest.mark.parametrize("record", [{"answers": ["A B"]}, {"texts": [["It is A.", None]]}])
def test_answers_and_texts_are_both_read(
    make_table: MakeTable, methods: Methods, record: dict[str, Any]
):
    assert cannot_run(methods("vote-majority"), make_table("train - 1 0", **record)) == {}
