from __future__ import annotations

import os
import resource
import select
from dataclasses import replace
from pathlib import Path

import pytest

from eval.tasks.code_execution import Execution, Limits, run_code

PATIENT = Limits(wall_s=600, cpu_s=20, memory_bytes=1 << 28, file_bytes=1 << 20)
"""Others keep the machine busy, and what is meant to end does so by itself."""


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("assert 1 + 1 == 2", "passed"),
        ("assert 1 + 1 == 3", "failed"),
        ("1 +", "failed"),
        ("'\ud800'", "failed"),
        ("x = [0] * 10**9", "memory"),
        ("x = []\nwhile True:\n    x.append(bytearray(1 << 20))", "memory"),
        ("for _ in range(10**3):\n    print('x' * 10**5)", "passed"),
        ("open('x', 'wb').write(bytes(1 << 21))", "failed"),
        ("import os\nos._exit(0)", "crashed"),
        ("import os\nos.abort()", "crashed"),
        ("import sys\nsys.exit(0)", "failed"),
        ("def f():\n    f()\nf()", "failed"),
        ("input()", "failed"),
    ],
)
def test_how_a_program_ends_is_told(program: str, reason: str):
    execution = run_code(program, PATIENT)

    assert execution.reason == reason
    assert execution.passed == (reason == "passed")


def test_a_loop_without_end_is_ended_by_the_processor_s_time():
    assert run_code("while True:\n    pass", replace(PATIENT, cpu_s=1)) == Execution("timeout")


def test_a_program_that_waits_for_ever_is_ended_by_the_clock():
    waiting = "import signal\nsignal.pause()"

    assert run_code(waiting, Limits(wall_s=0.2)) == Execution("timeout")


def test_a_child_that_would_survive_is_ended_with_the_program(tmp_path: Path):
    fifo = tmp_path / "alive"
    os.mkfifo(fifo)
    program = f"""
import os, signal
ours, theirs = os.pipe()
if os.fork() == 0:
    held = os.open({str(fifo)!r}, os.O_WRONLY)
    os.write(held, b"alive")
    os.write(theirs, b"1")
    signal.pause()
os.read(ours, 1)
"""
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)

    execution = run_code(program, PATIENT)

    assert execution.passed
    poll = select.poll()
    poll.register(reader, 0)
    assert poll.poll(30_000), "the child still holds the fifo"
    assert os.read(reader, 9) == b"alive"
    os.close(reader)


def test_only_the_program_says_how_it_ended_and_not_what_it_forked():
    program = "import os\nif os.fork() == 0:\n    raise ValueError\nos.wait()"

    assert run_code(program, PATIENT).passed


def test_a_program_sees_an_empty_folder_and_no_secrets(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SOME_API_KEY", "secret")
    program = """
import os
assert os.listdir() == ["program.py"], os.listdir()
assert os.environ["HOME"] == os.getcwd()
assert "SOME_API_KEY" not in os.environ
open("left", "w").close()
"""

    assert run_code(program, PATIENT).passed
    assert run_code(program, PATIENT).passed


def test_limits_hold_within_the_program():
    n_processes = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    program = f"""
import resource
for name, limit in [("CPU", 20), ("AS", {1 << 28}), ("FSIZE", {1 << 20}), ("CORE", 0)]:
    assert resource.getrlimit(getattr(resource, "RLIMIT_" + name))[0] == limit, name
assert resource.getrlimit(resource.RLIMIT_NPROC)[0] < {n_processes % 2**62}
"""

    assert run_code(program, PATIENT).passed


def test_a_program_is_no_main_module_and_its_data_classes_work():
    program = """
from dataclasses import dataclass

if __name__ == "__main__":
    raise ValueError

@dataclass
class Point:
    x: "int"

def f(x: Point) -> int: ...

assert f.__annotations__["x"] is Point
"""

    assert run_code(program, PATIENT).passed
