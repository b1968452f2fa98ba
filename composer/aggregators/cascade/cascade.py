"""Experts are asked from cheap to strong until one answer is sure enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from composer.aggregators.cascade.learned import load_cascade
from composer.aggregators.cascade.measure import (
    Candidate,
    measure,
    stage_request,
    verify_request,
    with_verdict,
)
from composer.aggregators.cascade.settings import (
    CascadeSettings,
    Confidence,
    Order,
    read_settings,
    refuse,
)
from composer.errors import AggregationError
from composer.experts import Expert
from composer.flow import ask_one, describe_failures
from composer.protocols import AggregatorNeed, Flow, Tools
from composer.types import Answer, AnswerType, Choice, Completion, Failure, Query, Selection


class CascadeAggregator:
    """Asks one expert after the other; the first whose confidence reaches its threshold answers.

    The last stage answers whatever its confidence. A stage that fails or says nothing is passed
    over; where the last one does, the latest answer before it stands. A verifier that fails, or
    says neither yes nor no, accepts nothing. With `votes` the answer is the leading one of all who
    were asked so far, in the words of the strongest who gave it, which also decides ties.

    Only the last stage is streamed, and with `votes` none is: until it is accepted, a text is not
    the answer.

    Source: Chen et al., "FrugalGPT" (arXiv 2305.05176), section 3, the LLM cascade, whose learned
    scorer is replaced by confidences that need no training; of these, agreement is as in Yue et
    al., "Large Language Model Cascades with Mixture of Thoughts Representations" (arXiv
    2310.03094), section 3, and entropy and variance are Mowst's (facebookresearch/mowst-gnn), whose
    random gate, u < confidence, is a threshold here, so that an answer does not hang on a draw.
    """

    name = "cascade"

    def __init__(
        self,
        *,
        experts: list[str] | None = None,
        confidence: Confidence | None = None,
        thresholds: list[float] | None = None,
        measure: str | None = None,
        order: Order | None = None,
        answer_type: AnswerType | None = None,
        n: int | None = None,
        temperature: float | None = None,
        by: str | None = None,
        from_: str | None = None,
    ) -> None:
        """Store the settings.

        Args:
            experts: The stages from cheap to strong; None: the selection's choices.
            confidence: `logprobs` of the tokens of the answer, `agreement` of `n` samples of the
                stage, `votes` of all who were asked so far, or the word of a `verifier`.
            thresholds: Least confidence of each stage but the last; above 1 is never reached.
            measure: How confidence is measured, see `MEASURES`; None: the first there.
            order: Of choices: `cheapest`, what the choice rule charged least for first, and of
                equals the worst-ranked; or `ranked`, the best first. None: `cheapest`.
            answer_type: How answers are read where the query does not say. None: `choice`.
            n: Samples of each stage but the last, for `agreement`. None: 5.
            temperature: Of these samples. None: 0.7.
            by: The expert that verifies.
            from_: The folder of a fitted cascade, which knows all of the above.

        Raises:
            ConfigError: The settings make no cascade.
        """
        given = {
            "experts": experts,
            "confidence": confidence,
            "thresholds": thresholds,
            "measure": measure,
            "order": order,
            "answer_type": answer_type,
            "n": n,
            "temperature": temperature,
            "by": by,
        }
        if from_ is None:
            given |= {"order": order or "cheapest", "answer_type": answer_type or "choice"}
            self._use(read_settings(**given))  # pyright: ignore[reportArgumentType]
            return
        for setting, value in given.items():
            if value is not None:
                refuse(f"{setting!r} was saved with the cascade of 'from'; remove it")
        self._use(load_cascade(Path(from_)).settings)

    def _use(self, settings: CascadeSettings) -> None:
        self.settings = settings
        named = (*(settings.experts or ()), *filter(None, (settings.by,)))
        self.experts = frozenset[str](named)
        self.needs: frozenset[AggregatorNeed] = (
            frozenset() if settings.experts else settings.stage_needs
        )

    def check(self, experts: Mapping[str, Expert], k: int) -> None:
        """See `Aggregator.check`."""
        self.settings.check(experts, k)

    def combine(self, query: Query, selection: Selection, tools: Tools) -> Flow[Answer]:
        """See `Aggregator.combine`."""
        settings = self.settings
        stages = settings.experts or _ordered(selection, settings)
        answer_type = query.answer_type or settings.answer_type
        said: list[Completion] = []
        failures: list[Failure] = []
        steps: list[Mapping[str, Any]] = []
        answer: Candidate | None = None
        accepted = False
        for place, expert in enumerate(stages):
            is_last = place == len(stages) - 1
            request = stage_request(query, expert, settings, is_last=is_last)
            outcome = yield from ask_one(request, tools)
            if isinstance(outcome, Failure):
                failures.append(outcome)
                steps.append({"expert": expert, "failed": outcome.message})
                continue
            said.append(outcome)
            candidate = measure(said, settings, stages, answer_type)
            if not candidate.sample.text.strip():
                steps.append({"expert": expert, "silent": True})
                continue
            answer = candidate
            if is_last:
                steps.append(_step(expert, candidate, None))
                break
            if settings.by is not None:
                verdict = yield from ask_one(verify_request(query, candidate, settings), tools)
                failures += [verdict] if isinstance(verdict, Failure) else []
                answer = with_verdict(candidate, verdict)
            steps.append(_step(expert, answer, settings.thresholds[place]))
            accepted = steps[-1]["accepted"]
            if accepted:
                break
        if answer is None:
            silent = [f"{completion.expert}: said nothing" for completion in said]
            parts = [*filter(None, [describe_failures(failures)]), *silent]
            raise AggregationError(f"no stage answered: {'; '.join(parts)}")
        return Answer(
            query_id=query.id,
            text=answer.sample.text,
            expert=answer.expert,
            aggregator=self.name,
            finish_reason=answer.sample.finish_reason,
            reason=_reason(answer, steps, len(stages), accepted=accepted),
            details={
                "confidence": settings.confidence,
                "measure": settings.measure,
                "answer": answer.answer,
                "answered": answer.expert,
                "accepted": accepted,
                "stages": tuple(steps),
                "not_asked": tuple(stages[len(steps) :]),
            },
            failures=tuple(failures),
        )


def _ordered(selection: Selection, settings: CascadeSettings) -> tuple[str, ...]:
    """The choices as stages, at most as many as thresholds allow."""
    choices = selection.choices[: len(settings.thresholds) + 1]
    places = range(len(choices))
    if settings.order == "cheapest":
        places = sorted(places, key=lambda place: (_charge(choices[place]), -place))
    return tuple(choices[place].expert for place in places)


def _charge(choice: Choice) -> float:
    """What the choice rule took off an expert's quality for its cost and its load."""
    if choice.quality is None or choice.utility is None:
        return 0.0
    return choice.quality - choice.utility


def _step(expert: str, candidate: Candidate, threshold: float | None) -> dict[str, Any]:
    """The evidence of a stage that answered; the last one has no threshold to reach."""
    return {
        "expert": expert,
        "answer": candidate.answer,
        "confidence": candidate.confidence,
        "threshold": threshold,
        "accepted": threshold is None
        or (candidate.confidence is not None and candidate.confidence >= threshold),
    }


def _reason(
    answer: Candidate, steps: Sequence[Mapping[str, Any]], n_stages: int, *, accepted: bool
) -> str:
    last = steps[-1]
    if accepted:
        return (
            f"{answer.expert} answered and stage {len(steps)} of {n_stages} was sure enough: "
            f"{last['confidence']:.3f}, of at least {last['threshold']:.3f}"
        )
    if "accepted" in last:
        return f"{answer.expert} answered; no stage before the last of {n_stages} was sure enough"
    why = "said nothing" if "silent" in last else f"failed: {' '.join(last['failed'].split())}"
    return f"the latest answer, of {answer.expert}, because the last stage, {last['expert']}, {why}"
