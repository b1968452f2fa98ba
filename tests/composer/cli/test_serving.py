import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
import pytest

from composer.cli.serving import EventLoop

SLOW = """
experts:
  slow: {engine: scripted, runner: RUNNER, engine_args: {text: "a b c", first_token_s: 300}}
compositions:
  auto: {router: {name: fixed, expert: slow}}
pool: {warm_spares: 0}
"""
"""An expert that will not answer before it is interrupted."""


def start(tmp_path: Path, runner: str) -> subprocess.Popen[bytes]:
    path = tmp_path / "experts.yaml"
    path.write_text(SLOW.replace("RUNNER", runner), encoding="utf-8")
    command = [sys.executable, "-m", "composer", "ask", "-v", "--experts", str(path), "Hi"]
    env = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
    )


def wait_until_up(process: subprocess.Popen[bytes]) -> None:
    assert process.stderr is not None
    while b" is up in " not in (line := process.stderr.readline()):
        assert line, "the command ended before its expert was up"


def is_zombie(process: psutil.Process) -> bool:
    """Whether it has ended, and only its new parent has not looked yet."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_command_without_a_traceback(tmp_path: Path, number: int) -> None:
    with start(tmp_path, "inline") as process:
        wait_until_up(process)
        process.send_signal(number)
        out, err = process.communicate(timeout=10)

    assert process.returncode == 128 + number
    assert (out, err) == (b"", b"")


@pytest.mark.ray
@pytest.mark.parametrize("times", [1, 2])
def test_runners_are_gone_within_five_seconds_of_a_signal(tmp_path: Path, times: int) -> None:
    with start(tmp_path, "ray") as process:
        wait_until_up(process)
        runners = psutil.Process(process.pid).children(recursive=True)
        for _ in range(times):
            process.send_signal(signal.SIGINT)
        process.wait(timeout=5)
        _, left = psutil.wait_procs(runners, timeout=0.5)

    assert process.returncode == 130
    assert runners
    assert [process for process in left if not is_zombie(process)] == []


@pytest.mark.ray
def test_nothing_is_left_of_a_ray_that_was_still_starting_at_the_signal(tmp_path: Path) -> None:
    with start(tmp_path, "ray") as process:
        parent, seen = psutil.Process(process.pid), dict[int, psutil.Process]()
        while not any(child.name() == "raylet" for child in seen.values()):
            seen |= {child.pid: child for child in parent.children(recursive=True)}
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        ends_s = time.monotonic() + 5
        while process.poll() is None and time.monotonic() < ends_s:
            with suppress(psutil.NoSuchProcess):
                seen |= {child.pid: child for child in parent.children(recursive=True)}
            time.sleep(0.01)
        _, left = psutil.wait_procs(list(seen.values()), timeout=0.5)

    assert process.returncode == 130
    assert [child for child in left if not is_zombie(child)] == []


def test_what_is_entered_is_left_however_the_block_ends() -> None:
    steps: list[str] = []

    @asynccontextmanager
    async def resource() -> AsyncGenerator[str]:
        steps.append("opened")
        try:
            yield "resource"
        finally:
            await asyncio.sleep(0)
            steps.append("closed")

    with (
        EventLoop() as loop,
        pytest.raises(ValueError, match="its block"),
        loop.entered(resource()),
    ):
        raise ValueError("its block")

    assert steps == ["opened", "closed"]


def test_a_loop_runs_one_coroutine_after_the_other() -> None:
    async def say(word: str) -> tuple[str, int]:
        return word, id(asyncio.get_running_loop())

    with EventLoop() as loop:
        first, second = loop.run(say("one")), loop.run(say("two"))

    assert (first[0], second[0]) == ("one", "two")
    assert first[1] == second[1]


def test_handlers_are_as_before_once_it_is_left() -> None:
    before = signal.getsignal(signal.SIGINT)

    with EventLoop():
        assert signal.getsignal(signal.SIGINT) != before

    assert signal.getsignal(signal.SIGINT) == before


def test_a_cancellation_that_is_no_signal_stays_one() -> None:
    async def cancelled() -> None:
        raise asyncio.CancelledError

    with EventLoop() as loop, pytest.raises(asyncio.CancelledError):
        loop.run(cancelled())
