"""What a runner's process must find in its environment before Python starts."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path


def runner_environment(engine: str, threads: int) -> dict[str, str]:
    """What a runner's process must find in its environment before Python starts.

    OpenMP threads are the runner's share of the cores, not bound, because another runner may be
    busy beside it. PyTorch's own OpenMP and the allocator that the CPU wheel of vLLM ships are
    loaded first, as vLLM does for the processes that it starts itself.
    """
    if engine != "vllm":
        return {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    environment = {
        "OMP_NUM_THREADS": str(threads),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CONFIGURE_LOGGING": os.environ.get("VLLM_CONFIGURE_LOGGING", "1"),
        "TOKENIZERS_PARALLELISM": "false",
    }
    preload = [
        *_package_files("torch", ("lib/libgomp*.so*", "../torch.libs/libgomp*.so*"))[:1],
        *_package_files("vllm", ("libs/libtcmalloc_minimal*.so*", "libs/libtcmalloc*.so*"))[:1],
    ]
    if preload:
        environment["LD_PRELOAD"] = ":".join(preload)
    return environment


def _package_files(package: str, patterns: Sequence[str]) -> list[str]:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return []
    root = Path(spec.submodule_search_locations[0])
    return [str(p.resolve()) for pattern in patterns for p in sorted(root.glob(pattern))]
