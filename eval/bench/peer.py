"""semantic-router's search, timed in a virtual environment of its own, round by round."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eval.bench.environment import environment_python

if TYPE_CHECKING:
    from composer.types import Float32Array

PEER = "semantic-router 1.1.1"
_REQUIREMENT = "semantic-router==1.1.1"
_PIPE = subprocess.PIPE

# Runs where only the peer is installed: an IndexedRouter over the same vectors, its index asked.
_SCRIPT = """
import json, sys, time
import numpy as np
from semantic_router import Route
from semantic_router.encoders import DenseEncoder
from semantic_router.routers import IndexedRouter

recorded, asked = np.load(sys.argv[1]), np.load(sys.argv[2])
k = int(sys.argv[3])

class Stored(DenseEncoder):
    def __call__(self, docs):
        return [recorded[int(doc)].tolist() for doc in docs]

texts = [str(number) for number in range(len(recorded))]
routes = [Route(name=f"expert{part}", utterances=texts[part::8]) for part in range(8)]
router = IndexedRouter(encoder=Stored(name="stored"), routes=routes)
print("ready", flush=True)
for _ in sys.stdin:
    taken = []
    for vector in asked:
        started = time.perf_counter()
        router.index.query(vector=vector, top_k=k)
        taken.append(1000 * (time.perf_counter() - started))
    print(json.dumps(taken), flush=True)
"""


def peer_python(cache: Path) -> str | None:
    """The interpreter that has the peer, installed when it is not there; None: it cannot be."""
    return environment_python(cache, _REQUIREMENT)


class Peer:
    """The peer with the same vectors, waiting to be timed."""

    def __init__(
        self, python: str, folder: Path, recorded: Float32Array, asked: Float32Array, k: int
    ) -> None:
        paths = [folder / "recorded.npy", folder / "asked.npy"]
        for path, vectors in zip(paths, (recorded, asked), strict=True):
            np.save(path, vectors)
        command = [python, "-c", _SCRIPT, *map(str, paths), str(k)]
        self._process = subprocess.Popen(command, stdin=_PIPE, stdout=_PIPE, text=True)
        self._line()

    def round(self) -> list[float]:
        """Milliseconds of each search of a round."""
        assert self._process.stdin is not None
        self._process.stdin.write("again\n")
        self._process.stdin.flush()
        return json.loads(self._line())

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{PEER} ended with status {self._process.wait()}")
        return line
