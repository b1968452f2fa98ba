"""A request's sampling in vLLM's words."""

from __future__ import annotations

from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

from composer.backends.vllm_groups import common_seed
from composer.backends.vllm_mixtures import forced_arguments, row_arguments
from composer.backends.vllm_outputs import Run


def sampling_params(run: Run, member: int) -> SamplingParams:
    """The request in vLLM's words; streamed as deltas, otherwise one final output."""
    request = run.request
    kind = RequestOutputKind.DELTA if run.stream else RequestOutputKind.FINAL_ONLY
    if run.is_forced:
        return SamplingParams(
            temperature=0.0,
            max_tokens=max(1, len(run.scored)),
            ignore_eos=True,
            logprobs=0,
            output_kind=kind,
            extra_args=forced_arguments(run.scored),
        )
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
        seed=common_seed(request) if request.peers else sampling.seed,
        logprobs=request.logprobs,
        structured_outputs=structured,
        output_kind=kind,
        extra_args=None if run.mixture is None else row_arguments(run.mixture, member),
    )
