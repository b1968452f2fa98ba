from __future__ import annotations

import json
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import ConfigError
from eval.replay.judged import Decision, Judged, join
from eval.replay.parts import Round, make_parts
from eval.replay.run import Replay, replay

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from composer.outcomes import OutcomeTable
    from eval.replay.methods import Method
    from eval.replay.rows import Row
    from tests.eval.replay.conftest import MakeTable, Methods, SpyRouter

TRAINED = ["train - 1 1 1 1 0", "train - 1 1 1 0 0", "train - 1 1 0 0 0", "train - 1 0 0 0 0"]
"""Train rows on which ann is best, then bea, cy, dee, eli."""
TRAINED_ANSWERS = ["A A A A A"] * 4

LETTERS = st.lists(st.sampled_from("AB-"), min_size=5, max_size=5)
GRADES = st.lists(st.sampled_from("01"), min_size=5, max_size=5)


def judge_one(table: OutcomeTable, method: Method, *, known_category: bool = False) -> Judged:
    """What a method decides on the test rows after a fit on the train rows."""
    each = Round(table.split("train"), table.split("test"))
    return method.judge(each, known_category=known_category, on_row=lambda: None)


def run(
    table: OutcomeTable, methods: Sequence[Method], *, known_category: bool = False
) -> tuple[Replay, dict[str, Row]]:
    found = replay(table, make_parts(table), methods, known_category=known_category)
    return found, {row.method: row for row in found.rows}


def hand_count(letters: Sequence[str], grades: Sequence[str], k: int) -> tuple[int | None, float]:
    """The voter whose answer wins, and its score, where the experts stand from best to worst."""
    votes = Counter(letter for letter in letters[:k] if letter != "-")
    if not votes:
        return None, 0.0
    winners = [letter for letter, n in votes.items() if n == max(votes.values())]
    voter = min(letters.index(letter) for letter in winners)
    return voter, float(grades[voter])


def test_routers_are_not_told_the_category(make_table: MakeTable, spy: SpyRouter):
    table = make_table("train law 1 0", "test law 1 0", "test art 0 1")

    judge_one(table, spy.method())

    assert [query.category for query in spy.asked] == [None, None]


def test_routers_are_told_the_category_where_it_is_known(make_table: MakeTable, spy: SpyRouter):
    table = make_table("train law 1 0", "test law 1 0", "test - 0 1")

    judge_one(table, spy.method(), known_category=True)

    assert [query.category for query in spy.asked] == ["law", None]


def test_routers_are_asked_the_prompts_and_nothing_of_the_outcomes(
    make_table: MakeTable, spy: SpyRouter
):
    table = make_table("train law 1 0", "test law 1 0", answers=["A B", "A B"])

    judge_one(table, spy.method())

    (query,) = spy.asked
    assert (query.id, query.text) == ("q1", "The prompt of q1")
    assert [message.role for message in query.messages] == ["user"]


def test_each_row_says_whether_the_method_was_told_the_category(
    make_table: MakeTable, methods: Methods, spy: SpyRouter
):
    table = make_table("train law 1 0", "test law 1 0")
    asked = [*methods("best-single", "category-expert", "category-hindsight", "oracle")]

    _, hidden = run(table, [*asked, spy.method()])
    _, known = run(table, [*asked, spy.method()], known_category=True)

    assert {name: row.category for name, row in hidden.items()} == {
        "best-single": "hidden",
        "category-expert": "known",
        "category-hindsight": "known",
        "oracle": "hidden",
        "spy": "hidden",
    }
    assert {row.category for row in known.values()} == {"known"}


def test_a_router_sends_each_query_to_the_expert_of_the_highest_quality(
    make_table: MakeTable, spy: SpyRouter
):
    table = make_table("train - 1 0", "test - 1 0", "test - 0 0.5", cost=["1 2", "3 4", "5 6"])

    judged = judge_one(table, spy.method())

    assert [(d.expert, d.asked, d.score, d.cost_usd) for d in judged.decisions] == [
        ("bea", ("bea",), 0.0, 4.0),
        ("bea", ("bea",), 0.5, 6.0),
    ]
    assert [d.predicted for d in judged.decisions] == [0.75, 0.75]


@pytest.mark.parametrize("options", [{}, {"aggregator": "vote", "k": 2}])
def test_a_query_that_the_router_knows_nothing_of_is_not_answered(
    make_table: MakeTable, spy: SpyRouter, options: dict[str, Any]
):
    table = make_table("train - 1 0", "test - 1 1", cost=["1 1", "1 1"], answers=["A A"] * 2)
    spy.quality = (math.nan, math.nan)
    told: list[None] = []

    judged = spy.method(**options).judge(
        Round(table.split("train"), table.split("test")),
        known_category=False,
        on_row=lambda: told.append(None),
    )

    (decision,) = judged.decisions
    assert (decision.expert, decision.asked, decision.failed) == (None, (), True)
    assert (decision.score, decision.cost_usd, len(told)) == (0.0, 0.0, 1)


def test_a_refused_query_of_a_table_without_costs_has_none(make_table: MakeTable, spy: SpyRouter):
    spy.quality = (math.nan, math.nan)

    (decision,) = judge_one(make_table("train - 1 0", "test - 1 1"), spy.method()).decisions

    assert decision.failed
    assert math.isnan(decision.cost_usd)


def test_a_routers_qualities_are_kept_in_the_order_of_the_tables_experts(
    make_table: MakeTable, spy: SpyRouter
):
    table = make_table("train - 1 0", "test - 1 0")
    each = Round(table.split("train").with_experts(["bea", "ann"]), table.split("test"))

    judged = spy.method().judge(each, known_category=False, on_row=lambda: None)

    np.testing.assert_array_equal(judged.quality, [[0.75, 0.25]])
    assert judged.decisions[0].expert == "ann"


def test_neighbours_are_found_by_the_encoder_that_was_handed_in(
    make_table: MakeTable, methods: Methods
):
    table = make_table(*["train - 0 1"] * 6, *["test - 0 1"] * 2)
    (neighbours,) = methods("neighbours[k=2,lexical_share=0]")

    judged = judge_one(table, neighbours)

    assert [decision.expert for decision in judged.decisions] == ["bea", "bea"]
    assert judged.settings["k"] == 2
    assert judged.quality is not None


def test_out_of_fold_no_router_is_fitted_on_what_it_judges(make_table: MakeTable, spy: SpyRouter):
    (part,) = make_parts(make_table(*["train - 1 0"] * 12), out_of_fold=True)

    for each in part.rounds:
        spy.method().judge(each, known_category=False, on_row=lambda: None)

    asked = [query.id for query in spy.asked]
    assert sorted(asked) == sorted(query.id for query in part.judged.queries)
    for each, fitted in zip(part.rounds, spy.fitted, strict=True):
        assert not {query.id for query in each.judged.queries} & set(fitted)


def test_out_of_fold_hindsight_chooses_on_all_that_is_judged(
    make_table: MakeTable, methods: Methods
):
    folds = make_table(*["train law 1 0"] * 12).folds()
    is_odd = folds == folds[0]
    table = make_table(*(f"train law {int(not odd)} {int(odd)}" for odd in is_odd))
    parts = make_parts(table, out_of_fold=True)

    found = replay(table, parts, methods("best-single", "category-hindsight", "oracle"))

    assert found.rows[1].accuracy == pytest.approx(max(is_odd.mean(), 1 - is_odd.mean()))


def test_settings_that_differ_by_fold_are_said_fold_by_fold():
    folds = [Judged("m", (Decision(f"q{k}", None, (), 1, 0),), {"k": k}) for k in (1, 2)]

    joined = join(folds)

    assert joined.settings == {"folds": [{"k": 1}, {"k": 2}]}
    assert [decision.query_id for decision in joined.decisions] == ["q1", "q2"]


def test_settings_that_are_the_same_in_every_fold_are_said_once(
    make_table: MakeTable, methods: Methods
):
    table = make_table(*["train law 1 0"] * 12)
    parts = make_parts(table, out_of_fold=True)

    found = replay(table, parts, methods("best-single", "oracle"))

    assert found.rows[0].settings == {"expert": "ann"}


def test_a_fold_of_one_row_keeps_what_the_router_predicted(make_table: MakeTable, spy: SpyRouter):
    table = make_table("train art 1 0", *["train law 1 0"] * 12)
    (part,) = make_parts(table, out_of_fold=True, categories=["art"])

    judged = spy.method().judge(part.rounds[0], known_category=False, on_row=lambda: None)

    np.testing.assert_array_equal(judged.quality, [[0.25, 0.75]])


@settings(max_examples=40, deadline=None)
@given(letters=LETTERS, grades=GRADES, k=st.integers(1, 5))
def test_a_majority_vote_equals_a_count_by_hand(
    make_table: MakeTable, methods: Methods, letters: list[str], grades: list[str], k: int
):
    table = make_table(
        *TRAINED,
        f"test - {' '.join(grades)}",
        answers=[*TRAINED_ANSWERS, " ".join(letters)],
        cost=["1 2 4 8 16"] * 5,
    )
    (vote,) = methods(f"vote-majority[k={k}]")

    (decision,) = judge_one(table, vote).decisions

    voter, score = hand_count(letters, grades, k)
    assert decision.expert == (None if voter is None else table.names[voter])
    assert decision.score == score
    assert decision.failed == (voter is None)
    assert decision.asked == table.names[:k]
    assert decision.cost_usd == 2**k - 1
    assert math.isnan(decision.predicted)


def test_votes_are_read_from_texts_where_no_answers_are_recorded(
    make_table: MakeTable, methods: Methods
):
    texts = [["?"] * 3, ["The answer is A.", "The answer is B.", "I say: the answer is B."]]
    table = make_table("train - 1 0.5 0", "test - 0 1 1", texts=texts)

    (decision,) = judge_one(table, methods("vote-majority")[0]).decisions

    assert (decision.expert, decision.score) == ("bea", 1.0)


def test_a_text_that_was_recorded_to_hold_no_answer_is_not_read_again(
    make_table: MakeTable, methods: Methods
):
    texts = [["?"] * 2, ["The answer is B.", "The answer is A."]]
    table = make_table("train - 1 0", "test - 0 1", texts=texts, answers=["A A", "- A"])

    (decision,) = judge_one(table, methods("vote-majority")[0]).decisions

    assert decision.expert == "bea"


@pytest.mark.parametrize("k", ["9", "all"])
def test_more_voters_than_experts_asks_all(make_table: MakeTable, methods: Methods, k: str):
    table = make_table(*TRAINED, "test - 0 0 0 0 1", answers=[*TRAINED_ANSWERS, "A B A B B"])

    judged = judge_one(table, methods(f"vote-majority[k={k}]")[0])

    assert judged.decisions[0].asked == table.names
    assert judged.settings == {"k": 5}


def test_a_router_may_choose_who_votes(make_table: MakeTable, methods: Methods):
    train, answers = [*TRAINED, *TRAINED], [*TRAINED_ANSWERS, *TRAINED_ANSWERS]
    table = make_table(*train, "test - 0 0 0 0 1", answers=[*answers, "A B A B B"])

    judged = judge_one(table, methods("neighbours[lexical_share=0]+vote-majority[k=2]")[0])

    assert judged.decisions[0].asked == ("ann", "bea")
    assert judged.settings["k"] == 2
    assert judged.settings["router"]["lexical_share"] == 0
    assert json.loads(json.dumps(judged.settings)) == judged.settings


def test_a_vote_without_one_answer_scores_nothing_and_is_counted(
    make_table: MakeTable, methods: Methods
):
    table = make_table("train - 1 0", "test - 1 1", "test - 1 0", answers=["A A", "- -", "A A"])

    _, rows = run(table, methods("best-single", "vote-majority", "oracle"))

    vote = rows["vote-majority"]
    assert (vote.n, vote.n_unknown, vote.n_failed, vote.accuracy) == (2, 0, 1, 0.5)


def test_what_asks_an_unrecorded_answer_is_unknown_and_in_no_figure(
    make_table: MakeTable, methods: Methods
):
    table = make_table(
        "train - 1 0",
        "test - 1 1",
        "test - 0 1",
        "test - 1 1",
        answers=["A A", "A A", "A ?", "B B"],
    )

    _, rows = run(table, methods("best-single", "vote-majority", "oracle"))

    vote = rows["vote-majority"]
    assert (vote.n, vote.n_unknown, vote.n_failed) == (2, 1, 0)
    assert (vote.accuracy, vote.delta_best_single, vote.figures["regret"]) == (1.0, 0.0, 0.0)
    assert rows["best-single"].accuracy == pytest.approx(2 / 3)


def test_what_asks_an_unrecorded_score_is_unknown(make_table: MakeTable, spy: SpyRouter):
    table = make_table("train - 1 0", "test - 1 ?", "test - 1 0.5")

    judged = judge_one(table, spy.method())

    np.testing.assert_equal(judged.score, [math.nan, 0.5])


def test_a_vote_of_which_any_voters_score_is_unrecorded_is_unknown(
    make_table: MakeTable, methods: Methods
):
    table = make_table("train - 1 1 0", "test - 1 1 ?", answers=["A A A", "A A B"])

    (decision,) = judge_one(table, methods("vote-majority")[0]).decisions

    assert math.isnan(decision.score)
    assert not decision.failed


def test_a_query_of_which_nothing_is_recorded_is_unknown_and_not_unanswered(
    make_table: MakeTable, methods: Methods, spy: SpyRouter
):
    table = make_table("train - 1 0", "test - ? ?", "test - 1 1", answers=["A A", "? ?", "A A"])

    _, rows = run(table, [*methods("best-single", "vote-majority", "oracle"), spy.method()])

    assert {(row.n, row.n_unknown, row.n_failed) for row in rows.values()} == {(1, 1, 0)}


@settings(max_examples=15, deadline=None)
@given(
    cells=st.lists(
        st.tuples(
            *[st.lists(st.sampled_from(of), min_size=2, max_size=2) for of in ("01?", "AB-?")]
        ),
        min_size=1,
        max_size=8,
    )
)
def test_each_query_is_known_or_counted_as_unknown(
    make_table: MakeTable, methods: Methods, cells: list[tuple[list[str], list[str]]]
):
    lines = [f"test - {' '.join(grades)}" for grades, _ in cells]
    letters = ["A A", *(" ".join(letters) for _, letters in cells)]
    table = make_table("train - 1 1", *lines, answers=letters)

    found, _ = run(table, methods("random", "best-single", "vote-majority", "oracle"))

    for row in found.rows:
        assert row.n + row.n_unknown == len(cells)
        assert row.n_failed <= row.n


def test_a_query_that_was_not_answered_costs_what_was_asked(
    make_table: MakeTable, methods: Methods
):
    table = make_table(
        "train - 1 0", "test - 1 1", cost=["1 1", "0.25 0.5"], answers=["A A", "- -"]
    )

    (decision,) = judge_one(table, methods("vote-majority")[0]).decisions

    assert (decision.expert, decision.cost_usd) == (None, 0.75)


def test_an_unknown_cost_of_one_makes_the_cost_of_all_unknown(
    make_table: MakeTable, methods: Methods
):
    table = make_table("train - 1 0", "test - 1 1", cost=["1 1", "0.25 ?"], answers=["A A"] * 2)

    (decision,) = judge_one(table, methods("vote-majority")[0]).decisions

    assert math.isnan(decision.cost_usd)


def test_methods_that_cannot_run_are_named_with_the_reason(make_table: MakeTable, methods: Methods):
    table = make_table("train - 1 0", "test - 1 0")

    found, rows = run(table, methods("best-single", "vote-majority", "oracle"))

    assert found.not_run == (("vote-majority", "no answers are recorded"),)
    assert [*rows] == ["best-single", "oracle"]


@pytest.mark.parametrize("missing", ["best-single", "oracle"])
def test_a_replay_without_the_references_is_refused(
    make_table: MakeTable, methods: Methods, missing: str
):
    table = make_table("train - 1 0", "test - 1 0")
    asked = [method for method in methods("best-single", "oracle") if method.name != missing]

    with pytest.raises(ConfigError, match=rf"methods lack \['{missing}'\]"):
        replay(table, make_parts(table), asked)


def test_the_rows_stand_part_by_part_in_the_order_of_the_methods(
    make_table: MakeTable, methods: Methods
):
    table = make_table("train - 1 0", "test - 1 0", "test! - 1 0", "ood - 0 1")

    found = replay(table, make_parts(table), methods("oracle", "random", "best-single"))

    assert [(row.split, row.method) for row in found.rows] == [
        (split, method)
        for split in ("test", "test-flagged", "ood")
        for method in ("oracle", "random", "best-single")
    ]


def test_progress_is_told_of_each_method_and_of_each_row_that_takes_time(
    make_table: MakeTable, methods: Methods, spy: SpyRouter
):
    table = make_table("train - 1 0", "test - 1 0", "test - 1 0", "ood - 1 0")
    told: list[tuple[str, str, int]] = []
    steps: Counter[tuple[str, str]] = Counter()

    def on_method(part: str, method: str, n: int) -> Callable[[], None]:
        told.append((part, method, n))
        return lambda: steps.update([(part, method)])

    replay(
        table,
        make_parts(table),
        [*methods("best-single", "oracle"), spy.method()],
        on_method=on_method,
    )

    assert told == [
        (part, method, n)
        for part, n in (("test", 2), ("ood", 1))
        for method in ("best-single", "oracle", "spy")
    ]
    assert steps == {("test", "spy"): 2, ("ood", "spy"): 1}


def test_a_method_that_cannot_be_fitted_ends_the_replay_in_one_line(
    make_table: MakeTable, methods: Methods
):
    table = make_table("train - 1 ?", "test - 1 0")

    with pytest.raises(ConfigError, match="no outcome of 'bea' to learn from; leave it out"):
        run(table, methods("best-single", "neighbours[lexical_share=0]", "oracle"))
