import asyncio
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.backends.scripted import ScriptedBackend, last_user_text, split_tokens
from composer.errors import ConfigError, ExpertUnavailable
from composer.types import (
    Completion,
    Delta,
    EngineSpec,
    Failure,
    Message,
    Request,
    Sampling,
    TokenLogprob,
)

SAMPLING = Sampling(temperature=0.0, top_p=1.0, max_tokens=16, stop=(), n=1)


def ask(prompt: str = "hello", **more: Any) -> Request:
    return replace(Request("q/a", "ann", (Message("user", prompt),), SAMPLING, final=True), **more)


async def loaded(**args: Any) -> ScriptedBackend:
    backend = ScriptedBackend()
    await backend.load(EngineSpec("ann", "scripted", "inline", ("ann",), engine_args=args))
    return backend


async def run(
    backend: ScriptedBackend, requests: Sequence[Request], *, stream: bool = False
) -> list[Delta | Completion | Failure]:
    return [event async for event in backend.generate(requests, stream=stream)]


async def completion(request: Request, **args: Any) -> Completion:
    (event,) = await run(await loaded(**args), [request])
    assert isinstance(event, Completion)
    return event


async def failure(request: Request, **args: Any) -> Failure:
    *_, event = await run(await loaded(**args), [request], stream=True)
    assert isinstance(event, Failure)
    return event


async def test_it_says_its_text_with_the_prompt_and_the_expert_filled_in() -> None:
    said = await completion(ask("who?"), text="{expert} heard {prompt}")
    assert said.text == "ann heard who?"
    assert (said.samples[0].finish_reason, said.completion_tokens) == ("stop", 3)
    assert (said.request_id, said.expert, said.prompt_tokens) == ("q/a", "ann", 1)
    assert said.samples[0].logprobs is None


async def test_the_first_reply_whose_key_is_in_the_last_user_message_wins() -> None:
    script = {"replies": {"sum": "four", "um": "hm"}, "text": "no idea"}
    assert (await completion(ask("the sum?"), **script)).text == "four"
    assert (await completion(ask("um"), **script)).text == "hm"
    earlier = Message("user", "the sum?"), Message("assistant", "sum"), Message("user", "hello")
    assert (await completion(ask(messages=earlier), **script)).text == "no idea"


async def test_what_the_script_has_nothing_for_is_refused() -> None:
    failed = await failure(ask("else"), replies={"sum": "four"})
    assert (failed.kind, failed.retryable) == ("refused", False)


@pytest.mark.parametrize(
    "kind", ["timeout", "unavailable", "refused", "too_long", "bad_output", "cancelled"]
)
async def test_it_fails_as_its_script_says(kind: str) -> None:
    failed = await failure(ask("bad"), text="fine", failures={"bad": kind})
    assert failed.kind == kind
    assert failed.retryable == (kind == "unavailable")


async def test_a_cut_comes_half_way_through_the_text_and_may_be_retried() -> None:
    backend = await loaded(text="one two three four", failures={"bad": "cut"})
    *deltas, failed = await run(backend, [ask("bad")], stream=True)
    assert [e.text for e in deltas if isinstance(e, Delta)] == ["one", " two"]
    assert isinstance(failed, Failure)
    assert (failed.kind, failed.retryable) == ("unavailable", True)


async def test_a_hung_request_answers_nobody_not_even_an_abort() -> None:
    backend = await loaded(text="fine", failures={"bad": "hang"})
    events = backend.generate([ask("bad")], stream=False)
    waiting = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    await backend.abort(["q/a"])
    done, _ = await asyncio.wait([waiting], timeout=0.02)
    waiting.cancel()
    assert not done


def test_a_crash_ends_the_process() -> None:
    code = """\
import asyncio
from composer.backends.scripted import ScriptedBackend
from composer.types import EngineSpec, Message, Request
args = {"failures": {"bad": "crash"}}
async def main():
    backend = ScriptedBackend()
    await backend.load(EngineSpec("a", "scripted", "inline", ("a",), engine_args=args))
    async for _ in backend.generate([Request("q", "a", (Message("user", "bad"),))], stream=False):
        pass
asyncio.run(main())
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 1


async def test_max_tokens_cuts_the_text_and_says_so() -> None:
    said = await completion(ask(sampling=replace(SAMPLING, max_tokens=2)), text="one two three")
    assert (said.text, said.samples[0].finish_reason) == ("one two", "length")
    assert said.completion_tokens == 2


async def test_n_texts_are_n_samples() -> None:
    said = await completion(ask(sampling=replace(SAMPLING, n=3)), text="one two")
    assert [sample.text for sample in said.samples] == ["one two"] * 3
    assert said.completion_tokens == 6


async def test_logprobs_come_with_every_token_where_they_are_asked_for() -> None:
    said = await completion(ask(logprobs=1), text="one two", logprob=-2.0)
    assert said.samples[0].logprobs == (
        TokenLogprob("one", -2.0, (("one", -2.0),)),
        TokenLogprob(" two", -2.0, ((" two", -2.0),)),
    )


async def test_a_continuation_is_scored_whole_and_nothing_is_generated() -> None:
    short = replace(SAMPLING, max_tokens=1)
    said = await completion(ask(continuation="the given text", sampling=short), text="one")
    (sample,) = said.samples
    assert (sample.text, sample.finish_reason) == ("the given text", "scored")
    assert sample.logprobs is not None
    assert [t.logprob for t in sample.logprobs] == [-0.5] * 3


async def test_deltas_are_streamed_of_final_requests_only() -> None:
    backend = await loaded(text="one two")
    draft = ask(id="q/draft", final=False)
    events = await run(backend, [ask(), draft], stream=True)
    assert [e.request_id for e in events if isinstance(e, Delta)] == ["q/a", "q/a"]
    assert not any(isinstance(e, Delta) for e in await run(backend, [ask()]))


async def test_a_pause_delays_and_ends_with_an_abort() -> None:
    backend = await loaded(text="one two three", token_s=3600)
    events = backend.generate([ask()], stream=True)
    assert await anext(events) == Delta("q/a", "ann", "one")
    await backend.abort(["q/a", "unknown"])
    failed = await anext(events)
    assert isinstance(failed, Failure)
    assert failed.kind == "cancelled"


async def test_pauses_count_as_time_spent_generating() -> None:
    said = await completion(ask(), text="one two three", first_token_s=0.02, token_s=0.01)
    assert said.generating_s >= 0.04


async def test_every_request_that_it_begins_is_in_its_log_whatever_becomes_of_it(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    backend = await loaded(text="fine", failures={"bad": "refused"}, log=str(log))
    other = await loaded(text="fine", log=str(log))

    await run(backend, [ask(id="q1/a"), ask("bad", id="q2/a")])
    await run(other, [ask(id="q3/a")])
    await run(backend, [ask(id="q1/a")])

    assert log.read_text("utf-8").splitlines() == ["q1/a", "q2/a", "q3/a", "q1/a"]


async def test_a_log_that_cannot_be_written_is_named_by_the_load(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no/log: cannot be written \(No such file"):
        await loaded(text="fine", log=str(tmp_path / "no" / "log"))


async def test_a_log_that_is_gone_later_ends_what_was_asked_with_the_error(tmp_path: Path) -> None:
    log = tmp_path / "here" / "log"
    log.parent.mkdir()
    backend = await loaded(text="fine", log=str(log))
    log.unlink()
    log.parent.rmdir()

    with pytest.raises(ConfigError, match="here/log: cannot be written"):
        async with asyncio.timeout(10):
            await run(backend, [ask()])


async def test_a_load_fails_with_the_reason_of_the_script() -> None:
    with pytest.raises(ExpertUnavailable, match="expert 'ann': out of luck"):
        await loaded(load_failure="out of luck")


async def test_an_unknown_argument_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"expert 'ann': .* no argument 'txet'; choose from"):
        await loaded(txet="hi")


async def test_an_unknown_failure_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"expert 'ann': no failure 'explode'; choose from"):
        await loaded(failures={"bad": "explode"})


@settings(deadline=None)
@given(st.text())
def test_tokens_joined_are_the_text_again(text: str) -> None:
    tokens = split_tokens(text)
    assert "".join(tokens) == text
    assert all(token.strip() for token in tokens[:-1])


def test_without_a_user_message_there_is_no_prompt() -> None:
    assert last_user_text([Message("system", "be brief")]) == ""
