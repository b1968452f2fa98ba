"""A composition asked one question after the other, as users would, and how long each waits.

{"schema_version": 1, "composition": "SHA-256 of what it is made of"}
{"id": "q1", "answer": "...", "seconds": 1.25, "ttft_s": 0.31, ...}     see `Answered`
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from composer.appending import AppendedFile
from composer.errors import AggregationError, ComposerError, ConfigError, RoutingError
from composer.fingerprint import digest
from composer.orchestrator import Composer
from composer.types import Answer, Delta, Message, Query, Restart
from eval.live.answered import NOBODY, Answered, Failed, Said, Took, account

FILE = "online.jsonl"
SCHEMA_VERSION = 1
WARM_UP = Query("warm-up", (Message("user", "Hello! How are you today?"),))
_LINE = TypeAdapter(Answered)


async def answer_online(
    composer: Composer,
    name: str,
    queries: Sequence[Query],
    folder: Path,
    on_progress: Callable[[int], None],
    now: Callable[[], float] = time.perf_counter,
) -> list[Answered]:
    """Have a composition answer the queries one after the other, streaming.

    Before the first a query is asked that does not count: it loads what the router needs, and the
    expert that it goes to. Each answer is a line of the folder's file; called again it goes on.

    Args:
        composer: It has the composition.
        name: The composition's.
        queries: With different ids.
        folder: Keeps the lines.
        on_progress: Called with the number of queries that are done.
        now: A clock, in seconds.

    Raises:
        ConfigError: The composition cannot work, or the folder is of another one or cannot be
            written.
    """
    with AppendedFile(folder / FILE) as lines:
        done = _take_up(lines, _identity(composer, name))
        left = [query for query in queries if query.id not in done]
        if left:
            await _warm_up(composer, name)
        for query in left:
            on_progress(len(done))
            done[query.id] = await _ask(composer, name, query, now)
            lines.append(_LINE.dump_json(done[query.id]))
        on_progress(len(done))
    return [done[query.id] for query in queries]


async def _ask(composer: Composer, name: str, query: Query, now: Callable[[], float]) -> Answered:
    began_s = now()
    first_s: float | None = None
    answer: Answer | None = None
    try:
        async with aclosing(composer.stream(query, composition=name)) as events:
            async for event in events:
                match event:
                    case Delta():
                        first_s = now() if first_s is None else first_s
                    case Restart():
                        # What was read so far is not the answer.
                        first_s = None
                    case Answer():
                        answer = event
    except (AggregationError, RoutingError) as exc:
        return await _failed(composer, name, query, exc, Took(now() - began_s))
    assert answer is not None, "a stream ends with an answer"
    assert answer.selection is not None, "an answer has its selection"
    took = Took(now() - began_s, None if first_s is None else first_s - began_s)
    failures = [Failed(f.expert, f.kind, f.message) for f in answer.failures]
    said = Said(answer.text, answer.expert, answer.finish_reason, failures)
    outcomes = (*answer.completions, *answer.failures)
    return account(query.id, answer.selection, outcomes, said, took)


async def _failed(
    composer: Composer, name: str, query: Query, error: ComposerError, took: Took
) -> Answered:
    """Of a query without an answer; whom the router chose for it is found out once more."""
    selection = NOBODY
    if isinstance(error, AggregationError):
        selection = await composer.route(query, composition=name)
    said = Said(error=f"{type(error).__name__}: {error}")
    told = account(query.id, selection, (), said, took)
    return replace(told, cost_usd=None, prompt_tokens=None, completion_tokens=None)


async def _warm_up(composer: Composer, name: str) -> None:
    try:
        await composer.ask(WARM_UP, composition=name)
    except (AggregationError, RoutingError):
        # Whoever failed fails again on the questions, where it is told.
        return


def _identity(composer: Composer, name: str) -> str:
    """What a composition is made of; one that experts.yaml does not name is told by its name."""
    composition = composer.registry.compositions.get(name)
    return digest([name, None if composition is None else composition.model_dump(mode="json")])


def _take_up(lines: AppendedFile, identity: str) -> dict[str, Answered]:
    """What the lines tell, by id; the first one is written where there is none."""
    done: dict[str, Answered] = {}
    for number, (_, line) in enumerate(lines.take_up(), start=1):
        try:
            if number > 1:
                told = _LINE.validate_json(line)
                done[told.id] = told
                continue
            header = json.loads(line)
            version, began_with = header["schema_version"], header["composition"]
        except (KeyError, TypeError, ValueError, ValidationError) as exc:
            raise ConfigError(
                f"{lines.path}:{number}: is no line of answers; name another folder"
            ) from exc
        if version != SCHEMA_VERSION:
            raise ConfigError(
                f"{lines.path}: has schema version {version!r}, and this program reads "
                f"{SCHEMA_VERSION}; update it, or name another folder"
            )
        if began_with != identity:
            raise ConfigError(
                f"{lines.path}: the composition is another than when the run began; restore it, or "
                "name another folder"
            )
    if lines.end == 0:
        header = {"schema_version": SCHEMA_VERSION, "composition": identity}
        lines.append(json.dumps(header).encode())
    return done
