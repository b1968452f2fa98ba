"""How a judge puts proposals in order: by a score of each, or by comparing two at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean
from typing import Any

from composer.aggregators.judge.proposers import proposal_names
from composer.aggregators.judge.settings import Judge, Mode
from composer.aggregators.judge.tournament import Pair, merge_sort
from composer.aggregators.proposals import Proposal
from composer.aggregators.references import ask_prepared, fit_references, prompt_budget
from composer.judge_prompts import (
    PREFERENCE_SCHEMA,
    SCORE_SCHEMA,
    comparing_prompt,
    read_preference,
    read_score,
    scoring_prompt,
)
from composer.protocols import Flow, Tools
from composer.types import Completion, Failure, Message, Outcome, Query, Request, Sampling

FIRST_CHARACTERS = 60
"""Of an unusable reply, as an error shows them."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """Proposals in the judge's order."""

    order: tuple[int, ...]
    """Numbers of the proposals, best first; where nothing was judged, as they came."""
    scores: tuple[float | None, ...] = ()
    """Mean score of each proposal; None: the judge gave none. Empty: it did not score."""
    why_not: str | None = None
    """Why nothing was judged; None: it was."""
    failures: tuple[Failure, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """JSON values for `Answer.details`."""


def rank(
    mode: Mode, judge: Judge, query: Query, proposals: Sequence[Proposal], tools: Tools
) -> Flow[Ranking]:
    """Put proposals in order; a tie keeps the order in which they come.

    A single proposal is not judged.
    """
    order = tuple(range(len(proposals)))
    if len(proposals) < 2:
        return Ranking(order, why_not="it is the only one")
    if mode == "pairwise":
        return (yield from rank_by_comparison(judge, query, proposals, tools))
    return (yield from rank_by_score(judge, query, proposals, tools))


def rank_by_score(
    judge: Judge, query: Query, proposals: Sequence[Proposal], tools: Tools, path: str = ""
) -> Flow[Ranking]:
    """Ask for each proposal's score, all at once; those without one come last.

    A judge's own proposals are not judged, unless it may judge itself.

    Args:
        judge: Who scores.
        query: What was answered.
        proposals: At least one.
        tools: The driver's.
        path: Goes before the proposal's number in the request ids: "" or "/" and a number.
    """
    if (why_not := _refusal(judge, proposals)) is not None:
        n = len(proposals)
        return Ranking(tuple(range(n)), (None,) * n, why_not)
    prompt = partial(scoring_prompt, rubric=judge.rubric)
    requests = [
        _request(judge, query, f"{path}/{number}", prompt, [p.text], SCORE_SCHEMA, tools)
        for number, p in enumerate(proposals, start=1)
    ]
    outcomes = yield from ask_prepared(requests, tools)
    read = [[read_score(text) for text in _texts(outcome)] for outcome in outcomes]
    given = [[score for score in scores if score is not None] for scores in read]
    means = tuple(fmean(scores) if scores else None for scores in given)
    # A score is at least 1, so that 0 stands behind all.
    order = sorted(range(len(proposals)), key=lambda i: -(means[i] or 0))
    return Ranking(
        tuple(order),
        means,
        None if any(given) else _why_unusable(judge, outcomes),
        tuple(o for o in outcomes if isinstance(o, Failure)),
        {
            "scores": dict(zip(proposal_names(proposals), means, strict=True)),
            "unusable": sum(score is None for scores in read for score in scores),
        },
    )


def rank_by_comparison(
    judge: Judge, query: Query, proposals: Sequence[Proposal], tools: Tools
) -> Flow[Ranking]:
    """Sort by comparisons, each asked in both orders; those that can be are asked at once.

    An order is worth 1 to the proposal that it prefers (the mean, where several judgements are
    drawn), and the sum of both orders decides: a judge that always takes the first one is undecided
    everywhere. Undecided comparisons, and those of which an order gave nothing usable, are ties.
    A judge that gives nothing usable in the first round is not asked further.
    """
    if (why_not := _refusal(judge, proposals)) is not None:
        return Ranking(tuple(range(len(proposals))), why_not=why_not)
    prompt = partial(comparing_prompt, rubric=judge.rubric)

    def request(first: int, second: int) -> Request | Failure:
        shown = [proposals[first].text, proposals[second].text]
        path = f"/{first + 1}-{second + 1}"
        return _request(judge, query, path, prompt, shown, PREFERENCE_SCHEMA, tools)

    sorting = merge_sort(len(proposals))
    pairs = next(sorting)
    outcomes: list[Outcome] = []
    margins: dict[Pair, float | None] = {}
    while True:
        both = [request(*order) for i, j in pairs for order in ((i, j), (j, i))]
        asked = yield from ask_prepared(both, tools)
        outcomes += asked
        for pair, forth, back in zip(pairs, asked[::2], asked[1::2], strict=True):
            margins[pair] = _margin(forth, back)
        if all(margin is None for margin in margins.values()):
            order = list(range(len(proposals)))
            why_not = _why_unusable(judge, [o for o in outcomes if _lead(o) is None])
            break
        try:
            pairs = sorting.send([(margins[pair] or 0) < 0 for pair in pairs])
        except StopIteration as stop:
            order, why_not = stop.value, None
            break
    names = proposal_names(proposals)
    compared = tuple(
        {"pair": (names[i], names[j]), "margin": margin} for (i, j), margin in margins.items()
    )
    unusable = sum(read_preference(text) is None for o in outcomes for text in _texts(o))
    return Ranking(
        tuple(order),
        (),
        why_not,
        tuple(o for o in outcomes if isinstance(o, Failure)),
        {"comparisons": compared, "unusable": unusable},
    )


def _refusal(judge: Judge, proposals: Sequence[Proposal]) -> str | None:
    """Why the judge is not to judge these; None: it is."""
    if judge.judges_self or any(p.expert != judge.by for p in proposals):
        return None
    return f"{judge.by} is the only proposer and does not judge itself"


def _request(
    judge: Judge,
    query: Query,
    path: str,
    prompt: Callable[[Sequence[Message], Sequence[str]], tuple[Message, ...]],
    shown: Sequence[str],
    schema: Mapping[str, Any],
    tools: Tools,
) -> Request | Failure:
    """What the judge is asked, the answers cut to its context; a failure where too little fits."""
    request_id = f"{query.id}/judge/{judge.by}{path}"
    budget = prompt_budget(judge.by, query.messages, tools)
    messages = fit_references(query.messages, shown, judge.by, budget, tools, inject=prompt)
    if messages is None:
        message = (
            f"the conversation and {len(shown)} answers do not fit into {budget} prompt tokens of "
            f"{judge.by!r}; name a judge with a longer context"
        )
        return Failure(request_id, judge.by, "too_long", message)
    return Request(
        request_id,
        judge.by,
        messages,
        Sampling(temperature=judge.temperature, n=judge.samples),
        schema=schema if judge.constrained else None,
        purpose="judge",
    )


def _margin(forth: Outcome, back: Outcome) -> float | None:
    """By how much the first of a pair leads, in -2..2, over both orders; None: one is unusable."""
    lead, lead_of_other = _lead(forth), _lead(back)
    return None if lead is None or lead_of_other is None else lead - lead_of_other


def _lead(outcome: Outcome) -> float | None:
    """How far A leads in -1..1, the mean over the judgements; None: none is usable."""
    worth = {"A": 1, "B": -1, "tie": 0}
    read = [preference for text in _texts(outcome) if (preference := read_preference(text))]
    return fmean(worth[preference] for preference in read) if read else None


def _why_unusable(judge: Judge, outcomes: Sequence[Outcome]) -> str:
    """Why outcomes hold no judgement, by the example of the first."""
    first = outcomes[0]
    if isinstance(first, Failure):
        return f"{judge.by} failed: {first.message}"
    said = " ".join(first.text.split())
    said = said if len(said) <= FIRST_CHARACTERS else f"{said[:FIRST_CHARACTERS].rstrip()}..."
    return f"{judge.by} gave no usable judgement, such as {said!r}"


def _texts(outcome: Outcome) -> list[str]:
    return [s.text for s in outcome.samples] if isinstance(outcome, Completion) else []
