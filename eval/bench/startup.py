"""What it costs to import the library, and to be shown the help."""

from __future__ import annotations

import subprocess
import sys
import time

from eval.bench.result import BenchResult, load_average, median

ROUNDS = 7


def bench_startup() -> BenchResult:
    """Seconds of a whole process, beside a Python that does nothing."""
    commands = {
        "python_s": ["-c", "pass"],
        "import_s": ["-c", "import composer"],
        "import_composer_class_s": ["-c", "from composer import Composer"],
        "help_s": ["-m", "composer", "--help"],
    }
    taken: dict[str, list[float]] = {name: [] for name in commands}
    before = load_average()
    for _ in range(ROUNDS):
        for name, arguments in commands.items():
            started_s = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            taken[name].append(time.perf_counter() - started_s)
    figures = {name: median(values) for name, values in taken.items()}
    return BenchResult(
        "startup", figures, {"rounds": ROUNDS, "load_average": [before, load_average()]}
    )
