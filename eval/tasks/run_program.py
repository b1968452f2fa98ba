"""Runs one program under limits and says how it ended; a process of its own, started by its path.

python -I run_program.py PROGRAM VERDICT_FD WALL_S CPU_S MEMORY_BYTES FILE_BYTES
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path
from types import ModuleType

MORE_PROCESSES = 64
"""Threads and processes that a program may have, beside all that the machine has when it starts."""


def main() -> None:
    """Limit this process, run the program in it, and write one word to the descriptor."""
    program, verdict_fd, *limits = sys.argv[1:]
    wall_s, cpu_s, memory_bytes, file_bytes = map(int, limits)
    # The caller ends us sooner, unless it was killed itself.
    signal.alarm(wall_s + 1)
    _lower(resource.RLIMIT_CPU, cpu_s)
    _lower(resource.RLIMIT_AS, memory_bytes)
    _lower(resource.RLIMIT_FSIZE, file_bytes)
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_NPROC, _n_threads() + MORE_PROCESSES)
    own_pid = os.getpid()
    verdict = _run(Path(program).read_bytes())
    # What the program forked may come by here as well.
    if os.getpid() == own_pid:
        os.write(int(verdict_fd), verdict)
    os._exit(0)


def _run(source: bytes) -> bytes:
    # A module of a name, since `if __name__ == "__main__"` is not to run, and data classes look
    # their module up.
    module = ModuleType("program")
    sys.modules["program"] = module
    try:
        exec(compile(source, "program.py", "exec", dont_inherit=True), module.__dict__)
    except MemoryError:
        return b"memory"
    except BaseException:  # noqa: BLE001 - whatever the program does is what it is judged by
        return b"failed"
    return b"passed"


def _n_threads() -> int:
    """What the machine runs: the limit counts all that its user does, so at least that."""
    return int(Path("/proc/loadavg").read_text("ascii").split()[3].partition("/")[2])


def _lower(which: int, limit: int) -> None:
    """A signal comes at the limit, the end of the process one above it."""
    hard = resource.getrlimit(which)[1]
    if hard == resource.RLIM_INFINITY or limit < hard:
        resource.setrlimit(which, (limit, limit + 1))


if __name__ == "__main__":
    main()
