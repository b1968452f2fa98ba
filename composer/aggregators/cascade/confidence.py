"""How sure an answer is, in [0, 1]: from token probabilities, from agreement, or a verifier's word.

Everything here is plain arithmetic over what experts already said; 1 is certain, 0 is no evidence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from composer.answers import extract_answer
from composer.types import AnswerType, Sample, TokenLogprob

TokenMeasure = Literal["mean", "min"]
SpreadMeasure = Literal["share", "entropy", "variance"]

OPTIONS: Mapping[AnswerType, int] = {"choice": 10, "yes_no": 2}
"""How many answers a type has, where they can be counted."""


def token_confidence(logprobs: Sequence[TokenLogprob], measure: TokenMeasure = "mean") -> float:
    """The probability of some tokens: their arithmetic mean, or the least; 0 of none.

    Args:
        logprobs: The tokens, as `answer_tokens` gives those of an answer.
        measure: `mean` is not swayed by one odd token, `min` is: the weakest link.
    """
    if not logprobs:
        return 0.0
    likely = [min(1.0, math.exp(token.logprob)) for token in logprobs]
    return min(likely) if measure == "min" else sum(likely) / len(likely)


def answer_tokens(sample: Sample, answer: str | None) -> tuple[TokenLogprob, ...]:
    """The tokens in which a sample states its answer: the last ones that spell it.

    Args:
        sample: With log-probabilities; without them there are no tokens.
        answer: As it was read from the text; where it is None, or the tokens do not spell it (a
            number in another form), all tokens count.
    """
    tokens = sample.logprobs or ()
    start = "".join(token.token for token in tokens).rfind(answer) if answer else -1
    if answer is None or start < 0:
        return tokens
    inside: list[TokenLogprob] = []
    at = 0
    for token in tokens:
        if at < start + len(answer) and at + len(token.token) > start:
            inside.append(token)
        at += len(token.token)
    return tuple(inside)


def option_distribution(
    logprobs: Sequence[TokenLogprob], answer_type: AnswerType
) -> dict[str, float]:
    """The probabilities of the options where the answer begins, from that token's alternatives.

    Args:
        logprobs: The answer's tokens; the first one counts.
        answer_type: In `OPTIONS`; alternatives that are no answer of it are left out, and the rest
            is scaled to add up to 1.

    Returns:
        By canonical answer; empty where no alternative is an option.
    """
    masses: dict[str, float] = {}
    for text, logprob in logprobs[0].top if logprobs else ():
        option = extract_answer(text, answer_type)
        if option is not None:
            masses[option] = masses.get(option, 0.0) + math.exp(logprob)
    total = sum(masses.values())
    return {option: mass / total for option, mass in masses.items()} if total else {}


def spread_confidence(
    masses: Sequence[float], n_options: int, measure: SpreadMeasure = "share"
) -> float:
    """How far the masses of some answers are from being equal.

    With the masses scaled to probabilities p over C options (those that have no mass included)

        share     max p
        entropy   1 - H(p) / log C
        variance  Var(p) / Var(one-hot) = (C sum p^2 - 1) / (C - 1), population variances

    Source: Zeng et al., "Mixture of Weak & Strong Experts on Graphs" (Mowst; ICLR 2024), its
    confidence function, and facebookresearch/mowst-gnn, `train_test_engine.py`: `entropy` and
    `variance`. Deviation: p may be shares of votes, not only a softmax; then C is how many voted.

    Args:
        masses: Not negative; of each answer given.
        n_options: C.
        measure: Which.

    Returns:
        In [0, 1]; 0 where there is no mass.
    """
    total = sum(masses)
    if total <= 0:
        return 0.0
    # The share of a mass that is not 0 may be.
    shares = [share for mass in masses if (share := mass / total) > 0]
    n = max(n_options, len(shares))
    if measure == "share":
        return max(shares)
    if n == 1:
        return 1.0
    if measure == "entropy":
        value = 1 + sum(p * math.log(p) for p in shares) / math.log(n)
    else:
        value = (n * sum(p * p for p in shares) - 1) / (n - 1)
    return min(1.0, max(0.0, value))


def agreement_confidence(
    answers: Sequence[str | None], measure: SpreadMeasure = "share"
) -> tuple[str | None, float]:
    """The answer that most give, the later one of equals, and how far all agree on it.

    Whoever gives no answer disagrees with everyone. A lone voter agrees with nobody: 0.

    Args:
        answers: Of the samples, or of the experts from the weakest to the strongest.
        measure: As in `spread_confidence`; C is their number.

    Source: the vote of Wang et al., "Self-Consistency Improves Chain of Thought Reasoning"
    (arXiv 2203.11171), section 2, which also finds that accuracy rises with consistency.
    """
    votes = tally(answers)
    if not votes:
        return None, 0.0
    leader = _leader(votes, answers)
    if len(answers) < 2:
        return leader, 0.0
    silent = [1.0] * sum(answer is None for answer in answers)
    if measure == "share":
        return leader, votes[leader] / len(answers)
    return leader, spread_confidence([*votes.values(), *silent], len(answers), measure)


def posterior_confidence(
    answers: Sequence[str | None], accuracies: Sequence[float], n_options: int
) -> tuple[str | None, float]:
    """The answer that is most probably right, and that probability.

    Experts are taken to be right with their probability p independently of one another, and to give
    each of the K - 1 wrong answers equally often. Then an answer's log-odds are the sum over its
    voters of log(p (K - 1) / (1 - p)), and answers nobody gave have 0. A lone voter counts for its
    own p. Who gives no answer says nothing.

    Source: Nitzan and Paroush, "Optimal Decision Rules in Uncertain Dichotomous Choice Situations"
    (1982), for K = 2; the K - 1 is that of equally likely wrong answers.

    Args:
        answers: Of the experts from the weakest to the strongest; of equals the later one leads.
        accuracies: Each expert's p, inside (0, 1).
        n_options: K, at least 2.
    """
    given = [(a, p) for a, p in zip(answers, accuracies, strict=True) if a is not None]
    if not given:
        return None, 0.0
    odds: dict[str, float] = {}
    for answer, p in given:
        odds[answer] = odds.get(answer, 0.0) + math.log(p * (n_options - 1) / (1 - p))
    leader = _leader(odds, [answer for answer, _ in given])
    top = max(*odds.values(), 0.0)
    others = max(0, n_options - len(odds)) * math.exp(-top)
    return leader, math.exp(odds[leader] - top) / (
        sum(math.exp(each - top) for each in odds.values()) + others
    )


def verdict_confidence(sample: Sample) -> float | None:
    """The probability that a verifier says yes: of yes against no, in its first token that is one.

    Without log-probabilities, or without an alternative that is either, the text decides: 1 for a
    yes, 0 for a no.

    Returns:
        None where it says neither.
    """
    for token in sample.logprobs or ():
        p = option_distribution((token,), "yes_no")
        if p and extract_answer(token.token, "yes_no") is not None:
            return p.get("yes", 0.0)
    answer = extract_answer(sample.text, "yes_no")
    return None if answer is None else float(answer == "yes")


def tally(answers: Sequence[str | None]) -> dict[str, int]:
    """How many give each answer; those without one are left out."""
    votes: dict[str, int] = {}
    for answer in answers:
        if answer is not None:
            votes[answer] = votes.get(answer, 0) + 1
    return votes


def _leader(weights: Mapping[str, float], answers: Sequence[str | None]) -> str:
    """The heaviest answer; of equals the one that was given last."""
    last = {answer: place for place, answer in enumerate(answers) if answer is not None}
    return max(weights, key=lambda answer: (weights[answer], last[answer]))
