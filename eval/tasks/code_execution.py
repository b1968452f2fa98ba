"""A program run in a process of its own under limits, and how it ended.

This keeps accidents small: endless loops, memory without end, floods of output, children that stay.
It is no sandbox. A program that means harm reads your files, talks to your network, changes what
your user may change, and can write its own verdict. Run code that you do not trust in a container
or a virtual machine that has nothing to lose.
"""

from __future__ import annotations

import math
import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, get_args

from eval.tasks import run_program

Reason = Literal["passed", "failed", "timeout", "memory", "crashed"]
KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "LANG")
"""Of the environment, which holds secrets more often than not."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may take."""

    wall_s: float = 60.0
    """Long, as a busy machine is no fault of the program: `cpu_s` ends its loops."""
    cpu_s: int = 5
    """Of one process; the interpreter's start counts."""
    memory_bytes: int = 1 << 30
    """Of address space, of one process."""
    file_bytes: int = 1 << 24
    """Of one file."""


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Execution:
    """How a program ended."""

    reason: Reason
    """
    passed    it ran to its end
    failed    it raised an exception, or called `sys.exit`
    timeout   it took too long, by the clock or of the processor
    memory    it was refused memory, and did not handle that
    crashed   its process ended without a word: a signal, `os._exit`
    """

    @property
    def passed(self) -> bool:
        """Whether it did what it should."""
        return self.reason == "passed"


def run_code(program: str, limits: Limits = DEFAULT_LIMITS) -> Execution:
    """Run a Python program in an empty folder that is removed, and end all that it started.

    It has no input, its output goes nowhere, and it sees none of this process's environment but
    `KEPT_VARIABLES`. What it starts is ended with it, unless that began a session of its own. Root
    is not held to the number of processes. Linux only.

    Args:
        program: Passes if it runs to its end, so it should assert what it is judged by.
        limits: What it may take.

    Source: the idea of openai/human-eval, execution.py. Deviations: limits of the system and not
    of `signal` and patched modules in a forked copy of this process; processor time decides, where
    it has 3 s by the clock; `sys.exit(0)` before the end does not pass.
    """
    with TemporaryDirectory(prefix="program-", ignore_cleanup_errors=True) as folder:
        file = Path(folder, "program.py")
        file.write_bytes(program.encode("utf-8", "surrogatepass"))
        verdict_fd, its_fd = os.pipe()
        try:
            process = _start(file, its_fd, limits)
        finally:
            os.close(its_fd)
        try:
            return Execution(_outcome(process, verdict_fd, limits.wall_s))
        finally:
            os.close(verdict_fd)


def _start(file: Path, verdict_fd: int, limits: Limits) -> subprocess.Popen[bytes]:
    folder = str(file.parent)
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    arguments = (
        verdict_fd,
        math.ceil(limits.wall_s),
        limits.cpu_s,
        limits.memory_bytes,
        limits.file_bytes,
    )
    return subprocess.Popen(
        [sys.executable, "-I", run_program.__file__, str(file), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env={**kept, "HOME": folder, "TMPDIR": folder, "OMP_NUM_THREADS": "1"},
        pass_fds=(verdict_fd,),
        start_new_session=True,
    )


def _outcome(process: subprocess.Popen[bytes], verdict_fd: int, wall_s: float) -> Reason:
    poll = select.poll()
    poll.register(verdict_fd, select.POLLIN)
    try:
        has_ended = bool(poll.poll(wall_s * 1000))
        verdict = os.read(verdict_fd, 16).decode("ascii", "replace") if has_ended else ""
    finally:
        # Before it is waited for: until then its number, which is its group's, is not used again.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        status = process.wait()
    for reason in get_args(Reason):
        if verdict == reason:
            return reason
    return "crashed" if has_ended and status != -signal.SIGXCPU else "timeout"
