"""vLLM engines, in this very process: no server, no executor process, one engine thread.

The only module that imports vllm. It is imported inside a runner's process, whose environment
`composer.pool.environment.runner_environment` prepares before Python starts.
"""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from vllm import EngineArgs, SamplingParams
from vllm.lora.request import LoRARequest
from vllm.outputs import RequestOutput
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
from vllm.v1.engine.llm_engine import LLMEngine

from composer.backends import BACKENDS
from composer.backends.engine_thread import EngineThread, Event
from composer.backends.vllm_memory import vllm_engine_args
from composer.errors import ConfigError, ExpertUnavailable
from composer.tokenizer import ChatTokenizer
from composer.types import (
    Completion,
    Delta,
    EngineSpec,
    Failure,
    Request,
    RequestId,
    Sample,
    TokenLogprob,
)

REASON_CHARACTERS = 400
"""As much of vLLM's own words as an error of ours repeats."""


class VllmBackend:
    """A `Backend` over one in-process vLLM engine with continuous batching and streaming."""

    def __init__(self) -> None:
        self.capabilities = BACKENDS["vllm"].capabilities
        self._thread: EngineThread | None = None

    async def load(self, spec: EngineSpec) -> None:
        """See `Backend.load`."""
        thread = EngineThread(lambda: _Engine(spec))
        try:
            await thread.start()
        except ConfigError:
            raise
        except ValueError as exc:
            # vLLM's word for arguments that contradict the model, the machine or one another.
            raise ConfigError(
                f"expert {spec.experts[0]!r}: vLLM refuses its engine_args: {_one_line(exc)}"
            ) from None
        except Exception as exc:  # noqa: BLE001 - the border: whatever a load raises, said once
            reason = f"vLLM did not load it: {_one_line(exc)}"
            raise ExpertUnavailable(spec.experts[0], reason) from None
        self._thread = thread

    async def generate(self, requests: Sequence[Request], *, stream: bool) -> AsyncGenerator[Event]:
        """See `Backend.generate`."""
        assert self._thread is not None, "nothing is loaded"
        async with aclosing(self._thread.generate(requests, stream=stream)) as events:
            async for event in events:
                yield event

    async def abort(self, ids: Sequence[RequestId]) -> None:
        """See `Backend.abort`."""
        if self._thread is not None:
            self._thread.abort(ids)

    async def unload(self) -> None:
        """See `Backend.unload`."""
        if self._thread is not None:
            await self._thread.stop()
            self._thread = None


class _Run:
    """One request in the engine."""

    def __init__(self, request: Request, scored: Sequence[int], *, stream: bool) -> None:
        self.request = request
        self.scored = scored
        self.stream = stream
        self.started_s = time.perf_counter()
        self.pieces: dict[int, _Pieces] = {}


class _Pieces:
    """What one sample of a streamed request has given so far."""

    def __init__(self) -> None:
        self.text = ""
        self.tokens = 0
        self.logprobs: list[TokenLogprob] = []
        self.finish_reason: str | None = None


class _Engine:
    """A `SteppedEngine` over vLLM's `LLMEngine`."""

    def __init__(self, spec: EngineSpec) -> None:
        assert spec.model_path is not None, "the source is not resolved"
        device = current_platform.device_type
        try:
            args = EngineArgs(model=spec.model_path, **vllm_engine_args(spec, device))
        except TypeError as exc:
            raise ConfigError(
                f"expert {spec.experts[0]!r}: engine_args: {str(exc).split('()')[-1].strip()}; "
                "they are vLLM's own EngineArgs"
            ) from None
        self._tokenizer = ChatTokenizer.load(Path(spec.model_path), spec.chat_template)
        self._engine: LLMEngine | None = LLMEngine.from_engine_args(args)
        self._max_model_len = int(self._engine.model_config.max_model_len)
        self._adapters = {
            expert: LoRARequest(expert, number, folder)
            for number, (expert, folder) in enumerate(sorted(spec.adapters.items()), start=1)
        }
        self._runs: dict[RequestId, _Run] = {}

    def add(self, request: Request, *, stream: bool) -> Failure | None:
        """See `SteppedEngine.add`."""
        assert self._engine is not None
        if request.peers:
            return _refused(request, "vLLM does not mix experts within one engine")
        try:
            prompt = self._tokenizer.encode(request.messages)
        except ConfigError as exc:
            return _refused(request, str(exc))
        scored = self._tokenizer.encode_text(request.continuation or "")
        if len(prompt) + len(scored) >= self._max_model_len:
            return Failure(
                request.id,
                request.expert,
                "too_long",
                f"the prompt has {len(prompt) + len(scored)} tokens and the context is "
                f"{self._max_model_len}; shorten it or raise engine_args.max_model_len",
            )
        try:
            self._engine.add_request(
                request.id,
                {"prompt_token_ids": prompt + scored},
                _sampling_params(request, stream=stream),
                lora_request=self._adapters.get(request.expert),
            )
        except (ValueError, TypeError) as exc:
            return _refused(request, str(exc).splitlines()[0])
        self._runs[request.id] = _Run(request, scored, stream=stream)
        return None

    def abort(self, ids: Sequence[RequestId]) -> None:
        """See `SteppedEngine.abort`."""
        assert self._engine is not None
        running = [i for i in ids if self._runs.pop(i, None) is not None]
        if running:
            self._engine.abort_request(running)

    def step(self) -> list[Event]:
        """See `SteppedEngine.step`."""
        assert self._engine is not None
        events: list[Event] = []
        for output in self._engine.step():
            run = self._runs.get(output.request_id)
            if run is not None and isinstance(output, RequestOutput):
                events.extend(self._take(run, output))
        return events

    def close(self) -> None:
        """See `SteppedEngine.close`; what malloc keeps is given back as well."""
        if self._engine is not None:
            self._engine.engine_core.shutdown()
        self._engine = None
        self._runs.clear()
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)

    def _take(self, run: _Run, output: RequestOutput) -> list[Event]:
        request = run.request
        events: list[Event] = []
        for part in output.outputs:
            pieces = run.pieces.setdefault(part.index, _Pieces())
            pieces.text += part.text
            pieces.tokens += len(part.token_ids)
            pieces.finish_reason = part.finish_reason
            if part.logprobs:
                pieces.logprobs.extend(_token_logprobs(part.token_ids, part.logprobs))
            if run.stream and part.index == 0 and part.text and request.continuation is None:
                events.append(Delta(request.id, request.expert, part.text))
        if output.finished:
            del self._runs[request.id]
            events.append(self._completion(run, output))
        return events

    def _completion(self, run: _Run, output: RequestOutput) -> Completion:
        request = run.request
        if request.continuation is not None:
            samples: tuple[Sample, ...] = (_scored_sample(request, run.scored, output),)
            prompt_tokens = len(output.prompt_token_ids or ()) - len(run.scored)
        else:
            samples = tuple(
                Sample(
                    pieces.text,
                    pieces.finish_reason or "stop",
                    pieces.tokens,
                    tuple(pieces.logprobs) if request.logprobs is not None else None,
                )
                for _, pieces in sorted(run.pieces.items())
            )
            prompt_tokens = len(output.prompt_token_ids or ())
        return Completion(
            request.id,
            request.expert,
            samples,
            prompt_tokens,
            generating_s=time.perf_counter() - run.started_s,
        )


def _sampling_params(request: Request, *, stream: bool) -> SamplingParams:
    """The request in vLLM's words; streamed as deltas, otherwise one final output."""
    kind = RequestOutputKind.DELTA if stream else RequestOutputKind.FINAL_ONLY
    if request.continuation is not None:
        return SamplingParams(
            temperature=0.0, max_tokens=1, prompt_logprobs=0, detokenize=True, output_kind=kind
        )
    sampling = request.sampling
    structured = StructuredOutputsParams(json=dict(request.schema)) if request.schema else None
    return SamplingParams(
        n=sampling.n or 1,
        temperature=sampling.temperature if sampling.temperature is not None else 0.0,
        top_p=sampling.top_p if sampling.top_p is not None else 1.0,
        max_tokens=sampling.max_tokens,
        stop=list(sampling.stop or ()),
        seed=sampling.seed,
        logprobs=request.logprobs,
        structured_outputs=structured,
        output_kind=kind,
    )


def _token_logprobs(token_ids: Sequence[int], logprobs: Any) -> list[TokenLogprob]:
    taken: list[TokenLogprob] = []
    for token_id, alternatives in zip(token_ids, logprobs, strict=False):
        chosen = alternatives[token_id]
        top = sorted(alternatives.values(), key=lambda a: a.rank or 0)
        taken.append(
            TokenLogprob(
                chosen.decoded_token or "",
                float(chosen.logprob),
                tuple((a.decoded_token or "", float(a.logprob)) for a in top),
            )
        )
    return taken


def _scored_sample(request: Request, scored: Sequence[int], output: RequestOutput) -> Sample:
    """The continuation with the log-probability of each of its tokens."""
    logprobs = (output.prompt_logprobs or [])[-len(scored) :] if scored else []
    return Sample(
        request.continuation or "",
        "scored",
        len(scored),
        tuple(_token_logprobs(scored, logprobs)),
    )


def _one_line(exc: Exception) -> str:
    return " ".join((str(exc) or repr(exc)).split())[:REASON_CHARACTERS]


def _refused(request: Request, reason: str) -> Failure:
    return Failure(request.id, request.expert, "refused", reason)
