"""timing.json: how long each step of a run took, and how many loads; what a resumed run adds, too.

    {"seconds": 812.4, "loads": 9,
     "steps": [{"run": 1, "step": "experts", "seconds": 402.9, "loads": 3}, ...]}

`run` counts the times that the command was begun. Of a step that was killed nothing is known.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eval.replay.run_folder import write_json

FILE = "timing.json"


class Timing:
    """The steps of a run, kept as each ends."""

    def __init__(
        self, folder: Path, n_loads: Callable[[], int], now: Callable[[], float] = time.monotonic
    ) -> None:
        """Take up what earlier runs in the folder took.

        Args:
            folder: The run's.
            n_loads: How often an engine was loaded so far, by this process.
            now: A clock, in seconds.
        """
        self._file = folder / FILE
        self._n_loads = n_loads
        self._now = now
        self._steps: list[dict[str, Any]] = []
        if self._file.exists():
            self._steps = json.loads(self._file.read_text(encoding="utf-8"))["steps"]
        self._run = 1 + max((step["run"] for step in self._steps), default=0)

    @contextmanager
    def step(self, name: str) -> Generator[None]:
        """Time what is done inside, also where it ends early."""
        began_s, n_loads = self._now(), self._n_loads()
        try:
            yield
        finally:
            self._steps.append(
                {
                    "run": self._run,
                    "step": name,
                    "seconds": self._now() - began_s,
                    "loads": self._n_loads() - n_loads,
                }
            )
            write_json(self._file, self.to_json())

    def to_json(self) -> dict[str, Any]:
        """All steps and their sums, as JSON values."""
        return {
            "seconds": sum(step["seconds"] for step in self._steps),
            "loads": sum(step["loads"] for step in self._steps),
            "steps": self._steps,
        }
