from dataclasses import FrozenInstanceError, fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.types import DEFAULT_SAMPLING, Completion, Message, Query, Sample, Sampling

samplings = st.builds(
    Sampling,
    temperature=st.none() | st.floats(0, 2),
    top_p=st.none() | st.floats(0.1, 1),
    max_tokens=st.none() | st.integers(1, 99),
    stop=st.none() | st.lists(st.text(max_size=3), max_size=2).map(tuple),
    seed=st.none() | st.integers(0, 99),
    n=st.none() | st.integers(1, 9),
)


@settings(deadline=None)
@given(samplings, samplings)
def test_each_field_is_the_first_that_is_said(said: Sampling, defaults: Sampling) -> None:
    over = said.over(defaults)
    for field in fields(Sampling):
        own, other = getattr(said, field.name), getattr(defaults, field.name)
        assert getattr(over, field.name) == (other if own is None else own)


@settings(deadline=None)
@given(samplings, samplings, samplings)
def test_layers_of_sampling_may_be_merged_in_any_grouping(
    first: Sampling, second: Sampling, third: Sampling
) -> None:
    assert first.over(second).over(third) == first.over(second.over(third))


@settings(deadline=None)
@given(samplings)
def test_over_the_defaults_only_the_seed_may_be_left_open(said: Sampling) -> None:
    complete = said.over(DEFAULT_SAMPLING)
    unsaid = {f.name for f in fields(Sampling) if getattr(complete, f.name) is None}
    assert unsaid <= {"seed"}


def test_what_is_zero_or_empty_is_said() -> None:
    greedy = Sampling(temperature=0.0, stop=(), seed=0)
    assert greedy.over(Sampling(temperature=1.0, stop=("\n",), seed=7)) == greedy


def test_the_text_of_a_query_is_its_last_user_message() -> None:
    query = Query(
        "q",
        (
            Message("system", "be brief"),
            Message("user", "first"),
            Message("user", "second"),
            Message("assistant", "ok"),
        ),
    )
    assert query.text == "second"


def test_a_query_without_a_user_has_an_empty_text() -> None:
    assert Query("q", (Message("system", "be brief"),)).text == ""


def test_a_completion_reads_its_first_text_and_counts_all_its_tokens() -> None:
    samples = Sample("one", "stop", 3), Sample("two", "length", 4)
    completion = Completion("q/a", "ann", samples, prompt_tokens=9)
    assert completion.text == "one"
    assert completion.completion_tokens == 7


def test_values_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Message("user", "hi").content = "bye"  # pyright: ignore[reportAttributeAccessIssue]
