"""vLLM engines, in this very process: no server, no executor process, one engine thread.

It and the two modules that it alone imports, vllm_lora and vllm_sampling, are all that import vllm.
They are imported inside a runner's process, whose environment
`composer.pool.environment.runner_environment` prepares before Python starts.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

from torch import Tensor
from vllm import EngineArgs
from vllm.lora.request import LoRARequest
from vllm.outputs import RequestOutput
from vllm.platforms import current_platform
from vllm.v1.engine.llm_engine import LLMEngine
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor

from composer.backends import BACKENDS
from composer.backends.engine_thread import Event
from composer.backends.threaded import ThreadedBackend
from composer.backends.vllm_groups import (
    can_mix,
    fits_one_step,
    log_weights,
    out_of_step,
    too_long_together,
    unmixable,
)
from composer.backends.vllm_lora import use_dense_lora
from composer.backends.vllm_memory import vllm_engine_args
from composer.backends.vllm_mixtures import Added, Mixtures, Moved
from composer.backends.vllm_outputs import Run, one_line, refused, too_long
from composer.backends.vllm_sampling import sampling_params
from composer.backends.vllm_seeds import spare_seeds
from composer.errors import ConfigError, ExpertUnavailable
from composer.tokenizer import ChatTokenizer
from composer.types import EngineSpec, Failure, Request, RequestId


class VllmBackend(ThreadedBackend):
    """A `Backend` over one in-process vLLM engine with continuous batching and streaming."""

    def __init__(self) -> None:
        super().__init__(BACKENDS["vllm"].capabilities)

    async def load(self, spec: EngineSpec) -> None:
        """See `Backend.load`."""
        try:
            await self.start(lambda: _Engine(spec))
        except ConfigError:
            raise
        except ValueError as exc:
            # vLLM's word for arguments that contradict the model, the machine or one another.
            raise ConfigError(
                f"expert {spec.experts[0]!r}: vLLM refuses its engine_args: {one_line(exc)}"
            ) from None
        except Exception as exc:  # noqa: BLE001 - the border: whatever a load raises, said once
            reason = f"vLLM did not load it: {one_line(exc)}"
            raise ExpertUnavailable(spec.experts[0], reason) from None

    async def sleep(self, level: Literal[1, 2]) -> None:
        """See `Sleeper.sleep`. Not measured on a GPU; on a CPU vLLM does nothing."""
        await self.thread.do(lambda engine: engine.sleep(level))

    async def wake(self) -> None:
        """See `Sleeper.wake`. Not measured on a GPU."""
        await self.thread.do(_Engine.wake)


class _Engine:
    """A `SteppedEngine` over vLLM's `LLMEngine`."""

    def __init__(self, spec: EngineSpec) -> None:
        assert spec.model_path is not None, "the source is not resolved"
        device = current_platform.device_type
        engine_args = vllm_engine_args(spec, device)
        use_dense_lora(wanted=device == "cpu" and bool(engine_args.get("enforce_eager")))
        mixtures = Mixtures() if can_mix(spec, engine_args) else None
        if mixtures is not None:
            others = engine_args.get("logits_processors") or ()
            engine_args["logits_processors"] = [*others, _mixing(mixtures)]
        try:
            args = EngineArgs(model=spec.model_path, **engine_args)
        except TypeError as exc:
            raise ConfigError(
                f"expert {spec.experts[0]!r}: engine_args: {str(exc).split('()')[-1].strip()}; "
                "they are vLLM's own EngineArgs"
            ) from None
        self._tokenizer = ChatTokenizer.load(Path(spec.model_path), spec.chat_template)
        self._engine: LLMEngine | None = LLMEngine.from_engine_args(args)
        if device == "cpu":
            spare_seeds(self._core.model_executor.driver_worker.worker.model_runner)
        self._max_model_len = int(self._engine.model_config.max_model_len)
        self._adapters = {
            expert: LoRARequest(expert, number, folder)
            for number, (expert, folder) in enumerate(sorted(spec.adapters.items()), start=1)
        }
        self._experts = spec.experts
        self._mixtures = mixtures
        self._runs: dict[RequestId, Run] = {}
        self._rows: dict[str, tuple[Run, int]] = {}
        self._held: list[Run] = []
        self._level: Literal[0, 1, 2] = 0

    def add(self, request: Request, *, stream: bool) -> Failure | None:
        """See `SteppedEngine.add`; a group enters in a later step, when there is room for all."""
        if request.peers or request.weights:
            experts = None if self._mixtures is None else self._experts
            if (reason := unmixable(request, experts)) is not None:
                return refused(request, reason)
        try:
            prompt = self._tokenizer.encode(request.messages)
        except ConfigError as exc:
            return refused(request, str(exc))
        scored = self._tokenizer.encode_text(request.continuation or "")
        if len(prompt) + len(scored) >= self._max_model_len:
            return too_long(request, len(prompt) + len(scored), self._max_model_len)
        run = Run(request, prompt, scored, stream=stream)
        run.is_forced = request.continuation is not None and self._mixtures is not None
        if request.peers:
            if (failure := too_long_together(self._scheduler, run)) is not None:
                return failure
            self._held.append(run)
        elif (failure := self._enter(run)) is not None:
            return failure
        self._runs[request.id] = run
        return None

    def abort(self, ids: Sequence[RequestId]) -> None:
        """See `SteppedEngine.abort`."""
        for run in [self._runs[i] for i in ids if i in self._runs]:
            self._drop(run)

    def step(self) -> list[Event]:
        """See `SteppedEngine.step`."""
        events: list[Event] = []
        while self._held and fits_one_step(self._scheduler, self._held[0]):
            run = self._held.pop(0)
            if (failure := self._enter(run)) is not None:
                self._drop(run)
                events.append(failure)
        outputs = self._up.step()
        for mixture in self._mixtures.take_broken() if self._mixtures is not None else ():
            run, _ = self._rows[f"{mixture}/0"]
            self._drop(run)
            events.append(out_of_step(run.request))
        for output in outputs:
            if output.request_id in self._rows and isinstance(output, RequestOutput):
                run, member = self._rows[output.request_id]
                events.extend(run.take(member, output))
                if run.is_finished:
                    self._forget(run)
        return events

    def sleep(self, level: Literal[1, 2]) -> None:
        """Leave the GPU."""
        self._up.sleep(level)
        self._level = level

    def wake(self) -> None:
        """Take the GPU again; weights that were let go are read anew."""
        self._up.wake_up(["weights"])
        if self._level == 2:
            cast("Any", self._up).collective_rpc("reload_weights")
        self._up.wake_up(["kv_cache"])

    def close(self) -> None:
        """See `SteppedEngine.close`; what malloc keeps is given back as well."""
        if self._engine is not None:
            self._engine.engine_core.shutdown()
        self._engine = None
        self._runs.clear()
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)

    @property
    def _up(self) -> LLMEngine:
        assert self._engine is not None, "it is closed"
        return self._engine

    @property
    def _core(self) -> Any:
        """The engine core in this process, which is public to itself alone."""
        return cast("Any", self._up.engine_core).engine_core

    @property
    def _scheduler(self) -> Any:
        return self._core.scheduler

    def _enter(self, run: Run) -> Failure | None:
        """Hand a run's rows to the engine."""
        if run.request.peers and self._mixtures is not None:
            run.mixture = self._mixtures.start(run.request.id, log_weights(run.request))
        prompt = [*run.prompt, *(() if run.is_forced else run.scored)]
        for member, expert in enumerate(run.experts):
            row = run.request.id if run.mixture is None else f"{run.mixture}/{member}"
            try:
                self._up.add_request(
                    row,
                    {"prompt_token_ids": prompt},
                    sampling_params(run, member),
                    lora_request=self._adapters.get(expert),
                )
            except (ValueError, TypeError) as exc:
                return refused(run.request, str(exc).splitlines()[0])
            run.rows.append(row)
            self._rows[row] = (run, member)
        return None

    def _drop(self, run: Run) -> None:
        """Take a run out of the engine, or from those that are held."""
        if run in self._held:
            self._held.remove(run)
        if run.rows:
            self._up.abort_request(run.rows)
        self._forget(run)

    def _forget(self, run: Run) -> None:
        del self._runs[run.request.id]
        for row in run.rows:
            del self._rows[row]
        if self._mixtures is not None and run.mixture is not None:
            self._mixtures.end(run.mixture)


def _mixing(mixtures: Mixtures) -> type[LogitsProcessor]:
    """A class for vLLM to instantiate, which tells an engine's mixtures of its batch."""

    class Mixing(LogitsProcessor):
        def __init__(self, *_: Any) -> None:
            """The configuration and the device are of no interest."""

        def is_argmax_invariant(self) -> bool:
            return False

        def update_state(self, batch_update: BatchUpdate | None) -> None:
            if batch_update is not None:
                mixtures.update(
                    batch_update.removed,
                    [Added(i, p.extra_args, tokens) for i, p, _, tokens in batch_update.added],
                    [Moved(i, j, move.name == "SWAP") for i, j, move in batch_update.moved],
                )

        def apply(self, logits: Tensor) -> Tensor:
            return mixtures.apply(logits)

    return Mixing
