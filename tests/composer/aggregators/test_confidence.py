"""How sure an answer is, by each measure, and that each stays in [0, 1]."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from composer.aggregators.cascade.confidence import (
    SpreadMeasure,
    agreement_confidence,
    answer_tokens,
    option_distribution,
    posterior_confidence,
    spread_confidence,
    token_confidence,
    verdict_confidence,
)
from composer.types import Sample, TokenLogprob

ANSWERS = st.lists(st.sampled_from(["A", "B", "C", None]), max_size=7)


def token(text: str, p: float, **alternatives: float) -> TokenLogprob:
    top = tuple((each, math.log(mass)) for each, mass in alternatives.items())
    return TokenLogprob(text, math.log(p), top)


def sample(*tokens: TokenLogprob, text: str | None = None) -> Sample:
    whole = "".join(each.token for each in tokens) if text is None else text
    return Sample(whole, "stop", len(tokens), logprobs=tokens or None)


def test_tokens_are_as_sure_as_their_mean_probability_or_as_the_least() -> None:
    tokens = (token("4", 0.9), token("2", 0.5))

    assert token_confidence(tokens) == pytest.approx(0.7)
    assert token_confidence(tokens, "min") == pytest.approx(0.5)


def test_no_tokens_are_no_evidence() -> None:
    assert token_confidence(()) == 0.0


def test_a_log_probability_that_rounding_made_positive_is_certainty() -> None:
    assert token_confidence((TokenLogprob("B", 1e-7),)) == 1.0


def test_the_tokens_of_an_answer_are_the_last_that_spell_it() -> None:
    said = sample(token("42", 0.1), token(" or", 0.2), token(" 4", 0.3), token("2!", 0.4))

    assert [each.token for each in answer_tokens(said, "42")] == [" 4", "2!"]


@pytest.mark.parametrize("answer", [None, "43"])
def test_all_tokens_count_where_the_answer_is_not_spelt(answer: str | None) -> None:
    said = sample(token("forty", 0.1), token("-two", 0.2))

    assert answer_tokens(said, answer) == said.logprobs


def test_options_are_weighed_against_one_another_and_nothing_else() -> None:
    at = token("B", 0.6, B=0.4, **{" b": 0.2, "C": 0.2, "The": 0.2})

    assert option_distribution((at,), "choice") == pytest.approx({"B": 0.75, "C": 0.25})


def test_where_no_alternative_is_an_option_nothing_is_known() -> None:
    assert option_distribution((token("The", 0.6, The=0.6),), "choice") == {}
    assert option_distribution((), "choice") == {}


def test_mowsts_variance_is_that_of_the_options_over_that_of_certainty() -> None:
    p = [0.7, 0.2, 0.1, 0.0]
    mean = 0.25
    variance = sum((each - mean) ** 2 for each in p) / 4

    assert spread_confidence(p, 4, "variance") == pytest.approx(variance / (3 / 16))


def test_mowsts_entropy_is_one_less_its_share_of_the_most_there_can_be() -> None:
    p = [0.5, 0.25, 0.25]
    entropy = -sum(each * math.log(each) for each in p)

    assert spread_confidence(p, 8, "entropy") == pytest.approx(1 - entropy / math.log(8))


@pytest.mark.parametrize("measure", ["entropy", "variance"])
def test_equal_masses_are_no_confidence_and_a_single_one_is_all(measure: SpreadMeasure) -> None:
    assert spread_confidence([0.2] * 5, 5, measure) == pytest.approx(0.0)
    assert spread_confidence([3.0, 0.0], 5, measure) == pytest.approx(1.0)
    assert spread_confidence([3.0], 1, measure) == pytest.approx(1.0)
    assert spread_confidence([], 5, measure) == 0.0


@example([1.0, 1.0, 5e-324], 1)
@given(st.lists(st.floats(0, 1), max_size=6), st.integers(1, 10))
def test_every_spread_is_in_the_unit_interval(masses: list[float], n_options: int) -> None:
    assert 0 <= spread_confidence(masses, n_options, "share") <= 1
    assert 0 <= spread_confidence(masses, n_options, "entropy") <= 1
    assert 0 <= spread_confidence(masses, n_options, "variance") <= 1


def test_agreement_is_the_share_of_the_leading_answer() -> None:
    assert agreement_confidence(["A", "B", "B", None]) == ("B", 0.5)


def test_of_equally_frequent_answers_the_later_leads() -> None:
    assert agreement_confidence(["A", "B"]) == ("B", 0.5)
    assert agreement_confidence(["A", "B", "A", "B", "C"])[0] == "B"


def test_a_lone_voter_agrees_with_nobody() -> None:
    assert agreement_confidence(["A"]) == ("A", 0.0)


def test_who_gives_no_answer_disagrees_with_everyone() -> None:
    assert agreement_confidence(["A", None]) == ("A", 0.5)
    assert agreement_confidence(["A", None], "entropy") == ("A", 0.0)
    assert agreement_confidence([None, None]) == (None, 0.0)


def test_two_experts_that_agree_are_surer_than_either_alone() -> None:
    _, alone = posterior_confidence(["A"], [0.6], 4)
    _, both = posterior_confidence(["A", "A"], [0.6, 0.6], 4)

    assert alone == pytest.approx(0.6)
    assert both == pytest.approx(0.6**2 / (0.6**2 + 3 * (0.4 / 3) ** 2))


def test_a_better_expert_outweighs_two_that_guess() -> None:
    leader, _ = posterior_confidence(["A", "A", "B"], [0.3, 0.3, 0.9], 4)

    assert leader == "B"


def test_an_expert_without_an_answer_changes_no_posterior() -> None:
    assert posterior_confidence([None, "A"], [0.9, 0.6], 4) == posterior_confidence(["A"], [0.6], 4)
    assert posterior_confidence([None], [0.9], 4) == (None, 0.0)


@given(ANSWERS, st.floats(0.01, 0.99), st.integers(3, 30))
def test_a_posterior_is_bayes_rule_over_all_options(
    answers: list[str | None], p: float, n_options: int
) -> None:
    leader, confidence = posterior_confidence(answers, [p] * len(answers), n_options)

    def likelihood(option: str) -> float:
        wrong = (1 - p) / (n_options - 1)
        return math.prod(p if each == option else wrong for each in answers if each is not None)

    options = ["A", "B", "C", *(f"unsaid {i}" for i in range(n_options - 3))]
    if leader is None:
        assert not any(answers)
    else:
        whole = sum(map(likelihood, options))
        assert confidence == pytest.approx(likelihood(leader) / whole)


def test_a_verdict_weighs_yes_against_no_where_the_verdict_begins() -> None:
    said = sample(token("Yes", 0.6, Yes=0.6, No=0.2, Maybe=0.2), token(".", 1.0))

    assert verdict_confidence(said) == pytest.approx(0.75)


def test_alternatives_of_another_token_than_the_verdict_do_not_count() -> None:
    said = sample(token("Well", 0.5, Well=0.5, Yes=0.5), token(" no", 0.9, **{" no": 0.9}))

    assert verdict_confidence(said) == 0.0


@pytest.mark.parametrize(("text", "confidence"), [("Yes.", 1.0), ("no", 0.0), ("Perhaps", None)])
def test_without_probabilities_the_verifiers_text_decides(
    text: str, confidence: float | None
) -> None:
    assert verdict_confidence(sample(text=text)) == confidence
