"""A virtual environment of its own for what a benchmark stands beside."""

from __future__ import annotations

import site
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path

from eval.bench.result import note

Step = Callable[[Sequence[str]], str | None]


def run_step(command: Sequence[str]) -> str | None:
    """Run a command; None: it went well, else the last thing that it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    return (done.stderr.strip().splitlines() or ["no reason given"])[-1]


def environment_python(
    cache: Path, requirement: str, *, sees_ours: bool = False, run: Step = run_step
) -> str | None:
    """The interpreter that has a requirement, installed when it is not there.

    Args:
        cache: Environments are kept in its folder `peers`, a folder each.
        requirement: As pip takes it.
        sees_ours: Whether it finds the packages of the interpreter that runs this: what is
            installed there, such as vLLM and PyTorch, is not installed again.
        run: Runs the commands that make it.

    Returns:
        The interpreter's path; None: there is no such environment and it cannot be made.
    """
    folder = cache / "peers" / requirement
    python, mark = folder / "bin" / "python", folder / "installed"
    seen = "\n".join(site.getsitepackages()) if sees_ours else ""
    if mark.exists() and mark.read_text("utf-8") == seen:
        return str(python)
    note(f"installing {requirement} into a virtual environment of its own")
    reason = run([sys.executable, "-m", "venv", "--clear", str(folder)])
    if reason is None:
        packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
        (packages / "seen.pth").write_text(seen, "utf-8")
        reason = run([str(python), "-m", "pip", "install", "--quiet", requirement])
    if reason is not None:
        note(f"{requirement} is not measured: {reason}")
        return None
    mark.write_text(seen, "utf-8")
    return str(python)
