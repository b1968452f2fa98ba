"""An engine that repeats what a model once said: a replay of recorded data, without the model.

Its `engine_args` are both needed:

    folder: PATH               the recorded data
    model: NAME                whose words to repeat, as the data names it

The folder holds gzipped JSON lines, one object each; other keys than these are passed over:

    queries.jsonl.gz           id, prompt
    outcomes.jsonl.gz          query_id, model; where known: answer, tokens_in, tokens_out
    outcomes_partial.jsonl.gz  the same, of models that were not asked everything (optional)
    responses.jsonl.gz         query_id, model, response: the full texts (optional)

A request is answered by what its last user message got, whole, as it was recorded: neither the
messages before it nor the sampling (but for `n`) change anything. So only proposals are replayed: a
request to aggregate or to judge is refused. Where two queries have the same prompt, the first that
the model was asked counts.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypeVar

from pydantic import NonNegativeInt
from typing_extensions import TypedDict

from composer.backends import BACKENDS
from composer.backends.scripted import last_user_text, split_tokens
from composer.errors import ConfigError
from composer.outcomes.lines import OUTCOMES, PARTIAL, QUERIES, RESPONSES, Text, read_lines
from composer.suggest import suggest, unknown_name
from composer.types import Completion, Delta, EngineSpec, Failure, Request, RequestId, Sample

ARGUMENTS = ("folder", "model")


class _Query(TypedDict):
    id: Text
    prompt: Text


class _Outcome(TypedDict):
    query_id: Text
    model: Text
    answer: NotRequired[Text | None]
    tokens_in: NotRequired[NonNegativeInt | None]
    tokens_out: NotRequired[NonNegativeInt | None]


class _Response(TypedDict):
    query_id: Text
    model: Text
    response: Text | None


SaidT = TypeVar("SaidT", _Outcome, _Response)


@dataclass(frozen=True, slots=True)
class Recording:
    """What one model said to one prompt."""

    text: str
    """The response, or else the answer, or else nothing."""
    answer: str | None
    prompt_tokens: int | None
    completion_tokens: int


class RecordedBackend:
    """A `Backend` that repeats recorded words."""

    def __init__(self) -> None:
        self.capabilities = BACKENDS["recorded"].capabilities
        self._recordings: dict[str, Recording] = {}

    async def load(self, spec: EngineSpec) -> None:
        """See `Backend.load`.

        Raises:
            ConfigError: An argument is wrong, or the folder has nothing of the model, or a file
                is missing or broken (`path:line: message`).
        """
        expert = spec.experts[0]
        folder, model = _read_arguments(spec)
        if not folder.is_dir():
            raise ConfigError(
                f"expert {expert!r}: no folder {str(folder)!r}; mend 'engine_args.folder'"
            )
        self._recordings = await asyncio.to_thread(_read_recordings, expert, folder, model)

    async def generate(
        self, requests: Sequence[Request], *, stream: bool
    ) -> AsyncGenerator[Delta | Completion | Failure]:
        """See `Backend.generate`. A prompt without a recording is refused."""
        for request in requests:
            outcome = self._replay(request)
            if stream and request.final and isinstance(outcome, Completion):
                for piece in split_tokens(outcome.text):
                    yield Delta(request.id, request.expert, piece)
            yield outcome

    async def abort(self, ids: Sequence[RequestId]) -> None:
        """See `Backend.abort`. Does nothing: a request is over as soon as it is begun."""

    async def unload(self) -> None:
        """See `Backend.unload`."""
        self._recordings = {}

    def _replay(self, request: Request) -> Completion | Failure:
        if wish := _wish_beyond_text(request):
            return _refused(request, f"a recording has no {wish}; ask an expert on another engine")
        prompt = last_user_text(request.messages)
        said = self._recordings.get(prompt) or self._recordings.get(prompt.strip())
        if said is None:
            return _refused(request, "nothing is recorded for this prompt; ask a recorded one")
        words = sum(len(message.content.split()) for message in request.messages)
        return Completion(
            request.id,
            request.expert,
            (Sample(said.text, "stop", said.completion_tokens, answer=said.answer),)
            * (request.sampling.n or 1),
            words if said.prompt_tokens is None else said.prompt_tokens,
        )


def _read_arguments(spec: EngineSpec) -> tuple[Path, str]:
    expert, args = spec.experts[0], spec.engine_args
    for name in args:
        if name not in ARGUMENTS:
            raise ConfigError(
                f"expert {expert!r}: a recorded engine has no argument {name!r}; "
                f"{suggest(name, ARGUMENTS)}"
            )
    for name in ARGUMENTS:
        if not isinstance(args.get(name), str):
            raise ConfigError(
                f"expert {expert!r}: a recorded engine needs the text 'engine_args.{name}'; add it"
            )
    return Path(args["folder"]), args["model"]


def _read_recordings(expert: str, folder: Path, model: str) -> dict[str, Recording]:
    """What a model said, by prompt: as it stands in the file, and without the space around it."""
    files = [folder / OUTCOMES, folder / PARTIAL]
    files = [file for number, file in enumerate(files) if number == 0 or file.exists()]
    outcomes = {said["query_id"]: said for file in files for said in _said(model, file, _Outcome)}
    if not outcomes:
        models = {line["model"] for file in files for _, line in read_lines(file, _Outcome)}
        raise ConfigError(f"expert {expert!r}: {folder}: {unknown_name('model', model, models)}")
    responses: dict[str, str | None] = {}
    if (file := folder / RESPONSES).exists():
        responses = {said["query_id"]: said["response"] for said in _said(model, file, _Response)}
    recordings: dict[str, Recording] = {}
    for _, query in read_lines(folder / QUERIES, _Query):
        if (outcome := outcomes.get(query["id"])) is not None:
            said = _recording(outcome, responses.get(query["id"]))
            recordings.setdefault(query["prompt"], said)
    for prompt, said in list(recordings.items()):
        recordings.setdefault(prompt.strip(), said)
    return recordings


def _recording(outcome: _Outcome, response: str | None) -> Recording:
    answer, tokens = outcome.get("answer"), outcome.get("tokens_out")
    text = (answer or "") if response is None else response
    tokens = len(text.split()) if tokens is None else tokens
    return Recording(text, answer, outcome.get("tokens_in"), tokens)


def _said(model: str, file: Path, line: type[SaidT]) -> Iterator[SaidT]:
    """The lines of one model."""
    # Parsing is what takes the time, and nearly all lines are other models'.
    spellings = {json.dumps(model, ensure_ascii=is_ascii).encode() for is_ascii in (True, False)}
    naming = re.compile(b"|".join(map(re.escape, spellings)))
    return (said for _, said in read_lines(file, line, naming=naming) if said["model"] == model)


def _wish_beyond_text(request: Request) -> str | None:
    wishes = {
        "score of a given text": request.continuation is not None,
        "log-probabilities": request.logprobs is not None,
        "text after a schema": request.schema is not None,
        "mix with peers": bool(request.peers or request.weights),
        "words for another purpose than to propose": request.purpose != "propose",
    }
    return next((wish for wish, is_asked in wishes.items() if is_asked), None)


def _refused(request: Request, message: str) -> Failure:
    return Failure(request.id, request.expert, "refused", message)
