"""How likely an expert finds given texts: what the harness chooses an option by."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from composer.backends import backend_entry
from composer.errors import ConfigError, ExpertError
from composer.experts import Registry
from composer.fingerprint import settings_digest
from composer.pool.pool import Pool
from composer.profile.asking import Asking
from composer.profile.journal import Journal
from composer.profile.run import IN_FLIGHT
from composer.types import Completion, Message, Outcome, Request, Sampling


def scoring_expert(registry: Registry, composition: str) -> str:
    """The one expert that a composition asks, whose engine scores given text.

    Raises:
        ConfigError: It asks several, or this one's engine does not.
    """
    expert = _only_expert(registry, composition)
    able = [name for name in registry.experts if _scores(registry, name)]
    if expert is not None and expert in able:
        return expert
    why = "is not one expert" if expert is None else f"is {expert!r}, which scores no given text"
    remedy = f"take one of the experts {able}" if able else "none of the experts does"
    raise ConfigError(
        f"composition {composition!r} {why}, and options are chosen by the likelihood that one "
        f"expert gives them; {remedy}, or tasks with 'output_type: generate_until'"
    )


async def score_texts(
    wanted: Sequence[tuple[str, str]],
    expert: str,
    registry: Registry,
    pool: Pool,
    folder: Path,
    on_done: Callable[[int], None],
) -> list[float]:
    """The log-likelihood, in nats, of each text as the answer to its context.

    A context is one user message, in the expert's chat template, and the text is scored as it is.
    Outcomes are kept: called again it asks only what is missing or failed.

    Args:
        wanted: Contexts and texts.
        expert: Who scores.
        registry: The experts.
        pool: Where they run.
        folder: Where a folder of these texts is made.
        on_done: Called with the number of texts that are scored.

    Raises:
        ExpertError: Some text has no score; the message says how many, and why the first has none.
    """
    requests = [
        Request(
            f"{place}/{expert}",
            expert,
            (Message("user", context),),
            Sampling(max_tokens=1, n=1),
            continuation=text,
        )
        for place, (context, text) in enumerate(wanted)
    ]
    name = hashlib.sha256(json.dumps([expert, *wanted]).encode()).hexdigest()[:12]
    settings = {expert: settings_digest(registry, expert)}
    with Journal(folder / name, (), settings) as journal:
        asking = Asking(registry, pool, journal, IN_FLIGHT, lambda progress: on_done(progress.done))
        outcomes = await asking.ask("options", requests)
    found = [_nats(outcomes[request.id]) for request in requests]
    reasons = [reason for reason in found if isinstance(reason, str)]
    if reasons:
        raise ExpertError(
            expert, f"{len(reasons)} of {len(found)} texts have no likelihood: {reasons[0]}"
        )
    return [nats for nats in found if not isinstance(nats, str)]


def _only_expert(registry: Registry, composition: str) -> str | None:
    if composition not in registry.compositions:
        return composition
    made_of = registry.compositions[composition]
    if (made_of.router.name, made_of.aggregator.name) != ("fixed", "best"):
        return None
    return made_of.router.settings["expert"]


def _scores(registry: Registry, expert: str) -> bool:
    return backend_entry(registry.experts[expert].engine).capabilities.continuation


def _nats(outcome: Outcome) -> float | str:
    """Of the whole text, or why they are not known."""
    if not isinstance(outcome, Completion):
        return outcome.message
    logprobs = outcome.samples[0].logprobs
    nats = sum(token.logprob for token in logprobs or ())
    return nats if logprobs and math.isfinite(nats) else "it gave no log-probabilities"
