"""What is refused when experts.yaml is read, each with one line that says what helps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from composer.aggregators import make_aggregator
from composer.aggregators.cascade.cascade import CascadeAggregator
from composer.errors import ConfigError
from composer.experts import Expert

VOTES: dict[str, Any] = {"confidence": "votes", "thresholds": [0.6]}
TWO: dict[str, Any] = {**VOTES, "experts": ["ann", "ben"]}


def pool(**engines: str) -> dict[str, Expert]:
    return {
        name: Expert.model_validate({"name": name, "engine": engine, "source": "somewhere"})
        for name, engine in engines.items()
    }


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"thresholds": [0.5]}, "no 'confidence' is set; choose one of"),
        ({"confidence": "votes"}, "no 'thresholds' are set"),
        ({"confidence": "votes", "thresholds": []}, "no 'thresholds' are set"),
        ({**VOTES, "experts": ["ann"]}, "is 1 stage; name two experts or more"),
        ({**VOTES, "experts": ["ann", "ann"]}, "named twice"),
        ({**VOTES, "experts": ["ann", "ben", "cas"]}, "1 thresholds for 3 stages; give 2"),
        ({**TWO, "thresholds": [-0.1]}, "threshold -0.1 is no confidence"),
        ({**TWO, "thresholds": [float("nan")]}, "threshold nan is no confidence"),
        ({**TWO, "measure": "mean"}, "confidence 'votes' has no measure 'mean'"),
        ({**TWO, "measure": "posterior"}, "confidence 'votes' has no measure 'posterior'"),
        ({**TWO, "n": 3}, "'n' goes with confidence 'agreement'"),
        ({**TWO, "temperature": 1.0}, "'temperature' goes with confidence 'agreement'"),
        ({**TWO, "by": "ann"}, "'by' goes with confidence 'verifier'"),
        ({**TWO, "confidence": "verifier"}, "name the verifying expert in 'by'"),
        ({**TWO, "confidence": "agreement", "n": 1}, "one sample agrees with nobody"),
        ({**TWO, "confidence": "agreement", "temperature": 0}, "set it above 0"),
        ({**TWO, "confidence": "certainty"}, "setting 'confidence' cannot be 'certainty'"),
        ({**VOTES, "from": "somewhere"}, "'confidence' was saved with the cascade of 'from'"),
        ({"order": "ranked", "from": "somewhere"}, "'order' was saved with the cascade of 'from'"),
    ],
)
def test_settings_that_make_no_cascade_are_refused_in_one_line(
    settings: dict[str, Any], why: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_aggregator("cascade", settings)

    assert why in str(caught.value)
    assert str(caught.value).startswith("aggregator 'cascade': ")
    assert "\n" not in str(caught.value)


def test_a_cascade_says_whom_it_asks_by_name() -> None:
    cascade = make_aggregator("cascade", {**TWO, "confidence": "verifier", "by": "dan"})

    assert cascade.experts == {"ann", "ben", "dan"}
    assert cascade.needs == frozenset()


@pytest.mark.parametrize(
    ("confidence", "need"),
    [("logprobs", {"logprobs"}), ("agreement", {"n"}), ("votes", set[str]())],
)
def test_choices_all_need_what_the_confidence_needs(confidence: Any, need: set[str]) -> None:
    assert CascadeAggregator(confidence=confidence, thresholds=[0.5]).needs == need


def test_as_many_choices_as_stages_are_wanted() -> None:
    cascade = make_aggregator("cascade", VOTES)
    experts = pool(ann="scripted", ben="scripted")

    cascade.check(experts, 2)
    with pytest.raises(ConfigError, match=r"'choose.k' is 1 and 1 thresholds are for 2 stages"):
        cascade.check(experts, 1)


def test_named_stages_go_with_any_number_of_choices() -> None:
    make_aggregator("cascade", TWO).check(pool(ann="recorded", ben="recorded"), 1)


@pytest.mark.parametrize(
    ("settings", "engines", "refused"),
    [
        ({"confidence": "logprobs"}, {"ann": "recorded", "ben": "scripted"}, "'ann' (recorded)"),
        ({"confidence": "logprobs"}, {"ann": "scripted", "ben": "recorded"}, None),
        (
            {"confidence": "verifier", "by": "dan"},
            {"ann": "recorded", "ben": "recorded", "dan": "recorded"},
            "'dan' (recorded) cannot give; name another expert, or set measure: text",
        ),
        (
            {"confidence": "verifier", "by": "dan", "measure": "text"},
            {"ann": "recorded", "ben": "recorded", "dan": "recorded"},
            None,
        ),
        (TWO, {"ann": "recorded"}, "no expert 'ben'"),
    ],
)
def test_only_those_who_are_asked_for_probabilities_must_have_them(
    settings: dict[str, Any], engines: Mapping[str, str], refused: str | None
) -> None:
    cascade = make_aggregator("cascade", {**TWO, **settings})
    if refused is None:
        cascade.check(pool(**engines), 1)
        return
    with pytest.raises(ConfigError) as caught:
        cascade.check(pool(**engines), 1)

    assert refused in str(caught.value)
    assert "\n" not in str(caught.value)
