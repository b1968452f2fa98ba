import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.cli.output import answer_json, complain, plain, selection_json, write_json
from composer.types import (
    Answer,
    Choice,
    Completion,
    Counterfactual,
    Evidence,
    Failure,
    Sample,
    Selection,
    Span,
)

SELECTION = Selection(
    query_id="q",
    router="retrieval",
    choices=(Choice("ada", 0.5, 0.25, lambda: Evidence("near an example", {"rank": np.int64(1)})),),
    ranking=("ada", "bob"),
    experts=("ada", "bob"),
    quality=np.array([0.5, math.nan], np.float32),  # pyright: ignore[reportArgumentType]
    reason="best by retrieval",
)
ANSWER = Answer(
    query_id="q",
    text="Oslo",
    expert="ada",
    aggregator="vote",
    finish_reason="stop",
    reason="1 of 2 votes",
    details={"tally": {"oslo": ("ada",)}, "share": np.float32(0.5), "entropy": math.nan},
    selection=SELECTION,
    completions=(
        Completion("q/ada", "ada", (Sample("Oslo", "stop", 1, answer="oslo"),), 7, runner="warm"),
    ),
    failures=(Failure("q/bob", "bob", "timeout", "no answer within 2 s"),),
    prompt_tokens=7,
    completion_tokens=1,
    cost_usd=0.5,
    trace=(
        Span("answer", 100.0, 102.5, {"composition": "auto"}),
        Span("route", 100.5, 101.0),
    ),
)


def test_an_answer_says_who_wrote_it_and_what_it_cost() -> None:
    value = answer_json(ANSWER)

    assert (value["answer"], value["expert"], value["aggregator"]) == ("Oslo", "ada", "vote")
    assert (value["prompt_tokens"], value["completion_tokens"], value["cost_usd"]) == (7, 1, 0.5)


def test_an_unknown_quality_is_null() -> None:
    assert selection_json(SELECTION)["scores"] == {"ada": 0.5, "bob": None}


def test_a_choice_comes_with_its_evidence() -> None:
    (choice,) = selection_json(SELECTION)["choices"]

    assert choice == {
        "expert": "ada",
        "quality": 0.5,
        "utility": 0.25,
        "evidence": "near an example",
        "details": {"rank": 1},
    }


def test_a_selection_without_alternatives_has_no_margin_and_no_counterfactuals() -> None:
    value = selection_json(SELECTION)

    assert (value["margin"], value["counterfactuals"]) == (None, [])


def test_a_selection_says_by_how_much_it_was_decided_and_what_would_change_it() -> None:
    change = Counterfactual("part", "algebra", 1.0, "below", 0.5, "bob")
    value = selection_json(replace(SELECTION, margin=np.float64(0.25), what_if=lambda: (change,)))

    assert value["margin"] == 0.25
    assert value["counterfactuals"] == [
        {
            "weight": "part",
            "part": "algebra",
            "now": 1.0,
            "side": "below",
            "turn": 0.5,
            "expert": "bob",
            "text": "'bob' is first if 'algebra' counts less than 0.5 times as much",
        }
    ]


def test_details_become_plain_values() -> None:
    details = answer_json(ANSWER)["details"]

    assert details == {"tally": {"oslo": ["ada"]}, "share": 0.5, "entropy": None}


def test_completions_and_failures_are_all_there() -> None:
    value = answer_json(ANSWER)

    (completion,) = value["completions"]
    assert completion["samples"][0]["answer"] == "oslo"
    assert completion["runner"] == "warm"
    (failure,) = value["failures"]
    assert (failure["expert"], failure["kind"]) == ("bob", "timeout")


def test_spans_are_timed_from_the_first_one_on() -> None:
    whole, route = answer_json(ANSWER)["trace"]

    assert (whole["start_s"], whole["end_s"]) == (0.0, 2.5)
    assert (route["start_s"], route["end_s"]) == (0.5, 1.0)


def test_an_answer_without_a_selection_or_a_trace_has_none() -> None:
    value = answer_json(Answer("q", "Oslo", "ada", "best", "stop", "it was asked"))

    assert value["selection"] is None
    assert value["trace"] == []


def test_sets_are_sorted_and_strangers_become_text() -> None:
    assert plain({"names": {"b", "a"}, "path": complex(1, 2)}) == {
        "names": ["a", "b"],
        "path": "(1+2j)",
    }


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.integers() | st.text(), inner),
)


@given(VALUES)
def test_whatever_is_made_plain_can_be_written_as_strict_json(value: object) -> None:
    json.dumps(plain(value), allow_nan=False)


def test_json_is_one_value_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    write_json(answer_json(ANSWER))

    assert json.loads(capsys.readouterr().out)["answer"] == "Oslo"


def test_a_complaint_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    complain("first line\n  second line")

    assert capsys.readouterr().err == "error: first line second line\n"
