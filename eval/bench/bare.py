"""The alternative that the pool is measured against: `vllm.LLM`, called directly.

python -m eval.bench.bare MODEL_FOLDER ENGINE_ARGS_JSON          serves what stdin asks
python -m eval.bench.bare MODEL_FOLDER ENGINE_ARGS_JSON --once   loads, says one token, ends
--dense-lora: adapters by the pool's products in the place of vLLM's own

A line of stdin is a batch, {"prompts": ..., "max_tokens": ..., "adapters": one each}, or one prompt
that is streamed, {"prompt": ..., "sampling": ..., "adapter": ...}; an adapter is the folder of a
LoRA adapter, or null.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any


def main(arguments: list[str]) -> None:
    """Load the model and run what stdin says."""
    vllm: Any = importlib.import_module("vllm")
    if "--dense-lora" in arguments:
        importlib.import_module("composer.backends.vllm_lora").use_dense_lora(wanted=True)
    llm = vllm.LLM(model=arguments[0], **{"disable_log_stats": True, **json.loads(arguments[1])})
    if "--once" in arguments:
        llm.generate(
            [{"prompt_token_ids": [1, 2, 3]}],
            vllm.SamplingParams(temperature=0.0, max_tokens=1),
            use_tqdm=False,
        )
        say({"ready": True})
        return
    say({"ready": True})
    adapters: dict[str, Any] = {}
    for number, line in enumerate(sys.stdin):
        work = json.loads(line)
        if "prompts" in work:
            loras = [_adapter(adapters, folder) for folder in work["adapters"]]
            say(run_batch(vllm, llm, work["prompts"], loras, work["max_tokens"]))
            continue
        params = vllm.SamplingParams(**work["sampling"], output_kind=_deltas())
        adapter = _adapter(adapters, work["adapter"])
        say(stream_one(llm.llm_engine, str(number), work["prompt"], params, adapter))


def run_batch(
    vllm: Any, llm: Any, prompts: list[list[int]], loras: list[Any], max_tokens: int
) -> dict[str, Any]:
    """Tokens and seconds of prompts that are run together."""
    started_s = time.perf_counter()
    outputs = llm.generate(
        [{"prompt_token_ids": prompt} for prompt in prompts],
        vllm.SamplingParams(temperature=0.0, max_tokens=max_tokens),
        use_tqdm=False,
        lora_request=loras if any(loras) else None,
    )
    seconds = time.perf_counter() - started_s
    tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
    return {"tokens": tokens, "seconds": seconds}


def stream_one(
    engine: Any,
    request_id: str,
    prompt: list[int],
    params: Any,
    adapter: Any,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Any]:
    """Seconds to the first text and to the end of one prompt, and tokens."""
    first_s, tokens = None, 0
    started_s = clock()
    engine.add_request(request_id, {"prompt_token_ids": prompt}, params, lora_request=adapter)
    while engine.has_unfinished_requests():
        for output in engine.step():
            for part in output.outputs:
                tokens += len(part.token_ids)
                if first_s is None and part.text:
                    first_s = clock() - started_s
    total_s = clock() - started_s
    return {
        "first_s": total_s if first_s is None else first_s,
        "total_s": total_s,
        "tokens": tokens,
    }


def say(reply: dict[str, Any]) -> None:
    """One line on stdout."""
    sys.stdout.write(json.dumps(reply) + "\n")
    sys.stdout.flush()


def _deltas() -> Any:
    sampling_params: Any = importlib.import_module("vllm.sampling_params")
    return sampling_params.RequestOutputKind.DELTA


def _adapter(known: dict[str, Any], folder: str | None) -> Any:
    """VLLM's word for an adapter; the same each time."""
    if folder is None:
        return None
    if folder not in known:
        request: Any = importlib.import_module("vllm.lora.request")
        known[folder] = request.LoRARequest(folder, len(known) + 1, folder)
    return known[folder]


if __name__ == "__main__":
    main(sys.argv[1:])
