import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from composer.experts import load_experts
from composer.types import Message, Request
from eval.bench.models import ENGINE_ARGS
from eval.bench.multiplexed import MAX_MODELS, Taken, make_work, read_taken
from eval.bench.multiplexed_script import Chat, answer, answer_all
from eval.bench.six_engines import BY, NAMES, write_experts


@dataclass
class Method:
    """Called as a method of a Serve handle is."""

    remote: Callable[..., Coroutine[Any, Any, Any]]


@dataclass
class Handle:
    """A Serve handle whose models say their names; each time that one is asked, it is loaded."""

    said: list[tuple[str, Chat]] = field(default_factory=list[tuple[str, Chat]])
    together: asyncio.Barrier = field(default_factory=lambda: asyncio.Barrier(1))

    @property
    def loads(self) -> Method:
        async def load_s() -> list[float]:
            return [float(number) for number, _ in enumerate(self.said)]

        return Method(load_s)

    def options(self, *, multiplexed_model_id: str) -> Any:
        async def write(chat: Chat) -> str:
            self.said.append((multiplexed_model_id, chat))
            if multiplexed_model_id != "by":
                await self.together.wait()
            return f"I am {multiplexed_model_id}"

        return Asked(Method(write))


@dataclass
class Asked:
    write: Method


def query(*proposers: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "Why?"}], "proposers": list(proposers)}


async def test_the_synthesiser_reads_what_the_proposers_said() -> None:
    handle = Handle()

    text = await answer(handle, query("a", "b"), "by")

    (_, _, (by, chat)) = handle.said
    assert (text, by) == ("I am by", "by")
    assert [message["role"] for message in chat] == ["system", "user"]
    assert "<reference 1>\nI am a\n</reference 1>" in chat[0]["content"]
    assert "<reference 2>\nI am b\n</reference 2>" in chat[0]["content"]
    assert chat[1]["content"] == "Why?"


async def test_proposers_are_asked_at_the_same_time() -> None:
    handle = Handle(together=asyncio.Barrier(2))

    async with asyncio.timeout(10):
        assert await answer(handle, query("a", "b"), "by") == "I am by"


async def test_the_query_that_starts_everything_does_not_count() -> None:
    work = {"by": "by", "queries": [query("a", "b"), query("c", "d")]}

    taken = await answer_all(Handle(), work)

    assert taken["load_s"] == [3.0, 4.0, 5.0]
    assert taken["seconds"] > 0


def asked(number: int, *experts: str) -> list[Request]:
    messages = (Message("user", f"Question {number}?"),)
    proposed = [Request(f"q{number}/propose/{e}", e, messages) for e in experts]
    return [*proposed, Request(f"q{number}/aggregate/0/{BY}", BY, messages, purpose="aggregate")]


def test_the_sample_is_the_first_queries_with_their_proposers(tmp_path: Path) -> None:
    path = tmp_path / "experts.yaml"
    write_experts(tmp_path, path, {})
    requests = [*asked(10, "smol1", "smol2"), *asked(9, "smol3", "smol4"), *asked(2, "smol5", BY)]

    work = make_work(load_experts(path), requests, BY, 1)

    assert work["queries"] == [
        {
            "messages": [{"role": "user", "content": f"Question {number}?"}],
            "proposers": proposers,
        }
        for number, proposers in ((2, ["smol5", BY]), (9, ["smol3", "smol4"]))
    ]


def test_the_engines_are_those_of_the_pool(tmp_path: Path) -> None:
    path = tmp_path / "experts.yaml"
    write_experts(tmp_path, path, {})

    work = make_work(load_experts(path), [], BY, 1)

    assert work["models"] == {name: str(tmp_path / name) for name in NAMES}
    assert work["engine_args"].items() >= ENGINE_ARGS.items()
    assert work["engine_args"]["distributed_executor_backend"] == "uni"
    assert work["environment"]["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
    assert (work["max_models"], work["max_tokens"]) == (MAX_MODELS, 64)


def test_a_sample_is_extrapolated_to_the_batch() -> None:
    taken = Taken(30.0, (1.0,) * 5, n_queries=2)

    assert taken.figures(100, wall_s=300.0) == {
        "multiplexed_s": 1500.0,
        "multiplexed_loads_per_query": 2.5,
        "multiplexed_median_load_s": 1.0,
        "multiplexed_ratio": 5.0,
    }


def test_what_the_script_measured_is_found_among_what_others_print() -> None:
    stdout = 'INFO serve: {deployed}\n{"seconds": 4.5, "load_s": [1.0, 2.0]}\nbye\n'

    assert read_taken(stdout, "", 3) == Taken(4.5, (1.0, 2.0), 3)


@pytest.mark.parametrize(
    ("stderr", "reason"),
    [("Traceback:\nOSError: no room\n", "OSError: no room"), ("", "no reason")],
)
def test_a_script_that_does_not_work_is_noted(
    stderr: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert read_taken("starting\n", stderr, 3) is None
    assert f"multiplexing is not measured: {reason}" in capsys.readouterr().err
