"""The alternative that the pool is measured against: `vllm.LLM.generate`, called directly.

python -m eval.bench.bare MODEL_FOLDER ENGINE_ARGS_JSON          serves batches over stdin
python -m eval.bench.bare MODEL_FOLDER ENGINE_ARGS_JSON --once   loads, says one token, ends
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from typing import Any


def main(arguments: list[str]) -> None:
    """Load the model and run what stdin says."""
    vllm: Any = importlib.import_module("vllm")
    llm = vllm.LLM(model=arguments[0], disable_log_stats=True, **json.loads(arguments[1]))
    if "--once" in arguments:
        llm.generate(
            [{"prompt_token_ids": [1, 2, 3]}],
            vllm.SamplingParams(temperature=0.0, max_tokens=1),
            use_tqdm=False,
        )
        say({"ready": True})
        return
    say({"ready": True})
    for line in sys.stdin:
        work = json.loads(line)
        started_s = time.perf_counter()
        outputs = llm.generate(
            [{"prompt_token_ids": prompt} for prompt in work["prompts"]],
            vllm.SamplingParams(temperature=0.0, max_tokens=work["max_tokens"]),
            use_tqdm=False,
        )
        seconds = time.perf_counter() - started_s
        tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
        say({"tokens": tokens, "seconds": seconds})


def say(reply: dict[str, Any]) -> None:
    """One line on stdout."""
    sys.stdout.write(json.dumps(reply) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
