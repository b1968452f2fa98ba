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
import gzip
import json
import re
import zlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError

from composer.backends import BACKENDS
from composer.backends.scripted import last_user_text, split_tokens
from composer.errors import ConfigError
from composer.suggest import suggest, unknown_name
from composer.types import Completion, Delta, EngineSpec, Failure, Request, RequestId, Sample

ARGUMENTS = ("folder", "model")
BUFFER_BYTES = 1 << 20
FILLED = re.compile(rb"\S")


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=True)


class _Query(_Row):
    id: str
    prompt: str


class _Outcome(_Row):
    query_id: str
    model: str
    answer: str | None = None
    tokens_in: NonNegativeInt | None = None
    tokens_out: NonNegativeInt | None = None


class _Response(_Row):
    query_id: str
    model: str
    response: str | None


RowT = TypeVar("RowT", bound=_Row)
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
    files = [folder / "outcomes.jsonl.gz", folder / "outcomes_partial.jsonl.gz"]
    files = [file for number, file in enumerate(files) if number == 0 or file.exists()]
    outcomes = {row.query_id: row for file in files for row in _rows_of(model, file, _Outcome)}
    if not outcomes:
        models = {row.model for file in files for row in _rows(file, _Outcome)}
        raise ConfigError(f"expert {expert!r}: {folder}: {unknown_name('model', model, models)}")
    responses: dict[str, str | None] = {}
    if (file := folder / "responses.jsonl.gz").exists():
        responses = {r.query_id: r.response for r in _rows_of(model, file, _Response)}
    recordings: dict[str, Recording] = {}
    for query in _rows(folder / "queries.jsonl.gz", _Query):
        if query.id in outcomes:
            said = _recording(outcomes[query.id], responses.get(query.id))
            recordings.setdefault(query.prompt, said)
    for prompt, said in list(recordings.items()):
        recordings.setdefault(prompt.strip(), said)
    return recordings


def _recording(outcome: _Outcome, response: str | None) -> Recording:
    text = (outcome.answer or "") if response is None else response
    tokens = len(text.split()) if outcome.tokens_out is None else outcome.tokens_out
    return Recording(text, outcome.answer, outcome.tokens_in, tokens)


def _rows_of(model: str, file: Path, row: type[SaidT]) -> Iterator[SaidT]:
    # Parsing is what takes the time, and nearly all lines are other models'.
    spellings = {json.dumps(model, ensure_ascii=is_ascii).encode() for is_ascii in (True, False)}
    naming = re.compile(b"|".join(map(re.escape, spellings)))
    return (r for r in _rows(file, row, naming) if r.model == model)


def _rows(file: Path, row: type[RowT], naming: re.Pattern[bytes] = FILLED) -> Iterator[RowT]:
    """The rows of the lines in which `naming` is found."""
    number = 0
    try:
        # Lines come several times faster from a buffer than from the unpacked file itself.
        with gzip.open(file, "rb") as unpacked, BufferedReader(unpacked, BUFFER_BYTES) as lines:
            for line in lines:
                number += 1
                if naming.search(line):
                    yield row.model_validate_json(line)
    except ValidationError as exc:
        error = exc.errors()[0]
        key = "".join(f"{step!r}: " for step in error["loc"])
        message = error["msg"][:1].lower() + error["msg"][1:]
        raise ConfigError(f"{file}:{number}: {key}{message}; mend the line") from exc
    except FileNotFoundError as exc:
        raise ConfigError(f"no file {str(file)!r}; recorded data needs it") from exc
    except (OSError, EOFError, zlib.error) as exc:
        raise ConfigError(f"{file}: cannot be read ({exc}); is it whole, and gzip?") from exc


def _wish_beyond_text(request: Request) -> str | None:
    wishes = {
        "score of a given text": request.continuation is not None,
        "log-probabilities": request.logprobs is not None,
        "text after a schema": request.schema is not None,
        "mix with peers": bool(request.peers),
        "words for another purpose than to propose": request.purpose != "propose",
    }
    return next((wish for wish, is_asked in wishes.items() if is_asked), None)


def _refused(request: Request, message: str) -> Failure:
    return Failure(request.id, request.expert, "refused", message)
