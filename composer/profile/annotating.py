"""What experts say of queries for routers that ask, found out for all queries together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from composer.errors import ComposerError, ConfigError
from composer.flow import FlowRun
from composer.profile.asking import Asking
from composer.profile.cases import Case
from composer.protocols import Flow
from composer.types import Annotation, Failure, Query, Request

logger = logging.getLogger(__name__)


class Annotating(Protocol):
    """What asks experts about a query: the algorithm of a router that is to be fitted.

    See `routers.learning.Learner`.
    """

    def annotate(self, query: Query, experts: Sequence[str]) -> Flow[Annotation] | None:
        """A flow that finds out what the router has to know of the query; None: nothing."""
        ...


async def annotate(
    what: str, annotator: Annotating, cases: Sequence[Case], experts: Sequence[str], asking: Asking
) -> tuple[dict[str, dict[str, Any]], list[Failure]]:
    """Run the flows of all cases side by side, so that each of their steps loads an expert once.

    Args:
        what: The router's name; it sets its requests apart from others'.
        annotator: Makes the flows.
        cases: Whose queries to annotate.
        experts: Those that are profiled.
        asking: Runs the requests.

    Returns:
        The annotations' values by the cases' ids, none where a flow ended in an error; and the
        failures of requests.

    Raises:
        ConfigError: It asks nothing of any query, or asks an expert that does not exist.
    """
    flows = {case.id: annotator.annotate(case.to_query(), experts) for case in cases}
    runs = {case_id: FlowRun(flow) for case_id, flow in flows.items() if flow is not None}
    if not runs:
        raise ConfigError(
            f"router {what!r} asks nothing about a query; leave it out, or name the expert that "
            "is to annotate"
        )
    failures: list[Failure] = []
    asked = {case_id: _step(run.start) for case_id, run in runs.items()}
    while any(asked.values()):
        requests = [request for of_case in asked.values() for request in of_case]
        outcomes = await asking.ask(what, [replace(r, id=f"{what}/{r.id}") for r in requests])
        failures += [o for o in outcomes.values() if isinstance(o, Failure)]
        for case_id, of_case in asked.items():
            told = [replace(outcomes[f"{what}/{r.id}"], request_id=r.id) for r in of_case]
            asked[case_id] = _step(lambda i=case_id, told=told: runs[i].deliver(told))
    found = {case_id: dict(run.result.values) for case_id, run in runs.items() if run.is_done}
    return found, failures


def _step(step: Callable[[], tuple[Request, ...]]) -> tuple[Request, ...]:
    """The requests that a flow asks next; none where it has ended, be it in an error."""
    try:
        return step()
    except ComposerError as exc:
        logger.warning("a query is left without an annotation: %s", exc)
        return ()
