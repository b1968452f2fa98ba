"""Ray Serve's multiplexing, asked what a panel asks; runs where `ray[serve]` is installed.

python -m eval.bench.multiplexed_script < WORK.json      prints one line of JSON
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import importlib
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from composer.prompts import inject_references
from composer.types import Message

Chat = list[dict[str, str]]


class Engine:
    """A vLLM engine in this process, used on the worker's one thread."""

    def __init__(self, folder: str, work: dict[str, Any], worker: ThreadPoolExecutor) -> None:
        self._llm: Any = None
        self._worker = worker
        vllm: Any = importlib.import_module("vllm")
        self._sampling = vllm.SamplingParams(temperature=0.0, max_tokens=work["max_tokens"])
        self._llm = vllm.LLM(model=folder, **work["engine_args"])

    def write(self, chat: Chat) -> str:
        """What it says."""
        (output,) = self._llm.chat(chat, self._sampling, use_tqdm=False)
        return str(output.outputs[0].text)

    def close(self) -> None:
        """Free what can be freed while the process lives.

        Without the engine's own shutdown, which would tear down vLLM's parallel groups: they are
        the process's, and in use by the engine that stays.
        """
        self._llm.llm_engine.engine_core._finalizer.detach()
        self._llm = None
        # vLLM freezes what it has made when an engine is up, which hides it from the collector.
        gc.unfreeze()
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)

    def __del__(self) -> None:
        # Serve calls this to evict it; what was asked before is first in the worker's queue.
        if self._llm is not None:
            self._worker.submit(self.close).result()


def make_deployment(serve: Any, work: dict[str, Any]) -> Any:
    """One replica that holds as many engines as there is memory for."""

    @serve.deployment(
        num_replicas=1,
        max_ongoing_requests=8,
        ray_actor_options={"num_cpus": 0, "runtime_env": {"env_vars": work["environment"]}},
    )
    class Multiplexed:
        def __init__(self) -> None:
            self.load_s: list[float] = []
            self.worker = ThreadPoolExecutor(1)
            self.worker.submit(importlib.import_module, "vllm").result()

        @serve.multiplexed(max_num_models_per_replica=work["max_models"])
        async def engine(self, name: str) -> Engine:
            started_s = time.perf_counter()
            engine = await asyncio.get_running_loop().run_in_executor(
                self.worker, Engine, work["models"][name], work, self.worker
            )
            self.load_s.append(time.perf_counter() - started_s)
            return engine

        async def write(self, chat: Chat) -> str:
            engine = await self.engine(serve.get_multiplexed_model_id())
            return await asyncio.get_running_loop().run_in_executor(self.worker, engine.write, chat)

        async def loads(self) -> list[float]:
            return self.load_s

    return Multiplexed.bind()


async def answer_all(handle: Any, work: dict[str, Any]) -> dict[str, Any]:
    """Seconds of all queries and of their loads; not of the first, which starts everything."""
    first, *others = work["queries"]
    await answer(handle, first, work["by"])
    before, started_s = await handle.loads.remote(), time.perf_counter()
    for query in others:
        await answer(handle, query, work["by"])
    seconds = time.perf_counter() - started_s
    return {"seconds": seconds, "load_s": (await handle.loads.remote())[len(before) :]}


async def answer(handle: Any, query: dict[str, Any], by: str) -> str:
    """Ask the proposers at the same time, then who synthesises."""
    messages = [Message(**message) for message in query["messages"]]
    asked = [ask(handle, proposer, messages) for proposer in query["proposers"]]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each) for each in asked]
    return await ask(handle, by, inject_references(messages, [task.result() for task in tasks]))


async def ask(handle: Any, name: str, messages: Sequence[Message]) -> str:
    """What one model says."""
    chat = [asdict(message) for message in messages]
    return await handle.options(multiplexed_model_id=name).write.remote(chat)


def main() -> None:
    """Do the work of stdin."""
    work = json.load(sys.stdin)
    ray: Any = importlib.import_module("ray")
    serve: Any = importlib.import_module("ray.serve")
    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
    )
    try:
        serve.start(proxy_location="Disabled")
        handle = serve.run(make_deployment(serve, work), route_prefix=None)
        taken = asyncio.run(answer_all(handle, work))
        serve.shutdown()
    finally:
        ray.shutdown()
    sys.stdout.write(json.dumps(taken) + "\n")


if __name__ == "__main__":
    main()
