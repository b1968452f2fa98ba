"""Whether the experts of a vLLM engine can write a text together, and when they may begin."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from composer.types import EngineSpec, Failure, Request

if TYPE_CHECKING:
    from composer.backends.vllm_outputs import Run


def can_mix(spec: EngineSpec, engine_args: Mapping[str, Any]) -> bool:
    """Whether an engine has experts to mix, and takes the processor that mixes them."""
    return bool(spec.adapters) and engine_args.get("speculative_config") is None


def unmixable(request: Request, experts: Sequence[str] | None) -> str | None:
    """Why an engine cannot do what a request with peers or weights asks; None: it can.

    Args:
        request: Has peers or weights.
        experts: Of the engine; None: it mixes none.
    """
    if not request.peers:
        return "its weights are those of a mixture, and it has no peers; name them, or no weights"
    if experts is None:
        return "its engine holds no adapters, or decodes by speculation, and so mixes no experts"
    strangers = [peer for peer in request.peers if peer not in experts]
    if strangers:
        return (
            f"{strangers[0]!r} is on another engine than {request.expert!r}; "
            "mix LoRA experts of one base"
        )
    if request.mix != "average" or request.continuation is not None:
        return "vLLM mixes experts by the average of their next tokens; ask for mix 'average'"
    if request.sampling.n not in (None, 1):
        return "a mixture writes one text; set n to 1"
    return _unusable(request.weights, 1 + len(request.peers)) if request.weights else None


def _unusable(weights: Sequence[float], n_experts: int) -> str | None:
    """Why a mixture cannot begin with these weights."""
    if len(weights) != n_experts:
        return f"{len(weights)} weights are not for {n_experts} experts; give each one, or none"
    wrong = next((w for w in weights if not (math.isfinite(w) and w >= 0)), None)
    if wrong is not None:
        return f"{wrong} cannot be the weight of an expert; give finite weights of 0 or more"
    if not any(weights):
        return "no expert of the mixture has any weight; give one of them a weight above 0"
    return None


def log_weights(request: Request) -> tuple[float, ...]:
    """The log of what each expert of a group counts at first, of shares that sum to 1; 0: -inf."""
    weights = request.weights or (1.0,) * (1 + len(request.peers))
    logs = [math.log(weight) if weight else -math.inf for weight in weights]
    top = max(logs)
    log_total = top + math.log(math.fsum(math.exp(log - top) for log in logs))
    return tuple(log - log_total for log in logs)


def common_seed(request: Request) -> int:
    """The seed of all rows of a group: without one each would draw its own token."""
    seed = request.sampling.seed
    return zlib.crc32(request.id.encode()) if seed is None else seed


def fits_one_step(scheduler: Any, run: Run) -> bool:
    """Whether the next step takes a group's whole prompts beside all that is in the engine.

    Args:
        scheduler: vLLM's.
        run: The group.
    """
    there = scheduler.requests.values()
    n_tokens = sum(max(1, r.num_tokens - r.num_computed_tokens) for r in there)
    return (
        n_tokens + run.n_prompt_tokens <= scheduler.max_num_scheduled_tokens
        and len(there) + len(run.experts) <= scheduler.max_num_running_reqs
    )


def too_long_together(scheduler: Any, run: Run) -> Failure | None:
    """The failure of a group that no step could take, with nothing else in the engine."""
    request, n_experts = run.request, len(run.experts)
    if n_experts > scheduler.max_num_running_reqs:
        reason = (
            f"{n_experts} experts are more than the engine runs at one time; "
            "choose fewer or raise engine_args.max_num_seqs"
        )
        return Failure(request.id, request.expert, "refused", reason)
    if run.n_prompt_tokens > scheduler.max_num_scheduled_tokens:
        reason = (
            f"the prompt has {len(run.prompt)} tokens for each of {n_experts} experts, and a step "
            f"takes {scheduler.max_num_scheduled_tokens}; shorten it or raise "
            "engine_args.max_num_batched_tokens"
        )
        return Failure(request.id, request.expert, "too_long", reason)
    return None


def out_of_step(request: Request) -> Failure:
    """The failure of a group of which the scheduler left out a row."""
    reason = (
        "its experts fell out of step, as they do where KV space runs out; "
        "raise engine_args.kv_cache_memory_bytes"
    )
    return Failure(request.id, request.expert, "unavailable", reason, retryable=True)
