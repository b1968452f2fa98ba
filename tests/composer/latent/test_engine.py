"""Texts that a group writes: with everything cached the same as without anything."""

# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from composer.latent.group import Group
from composer.latent.members import Thinker
from composer.latent.reading import in_steps, read_answer, read_prompt
from composer.types import Completion, Message
from tests.composer.latent.groups import PROMPTS, ask, engine, group, thinkers, write

WAYS: list[dict[str, Any]] = [
    {},
    {"attend_self": True},
    {"insertion": "before", "attend_self": True},
    {"think_tokens": 4},
    {"refresh": "token"},
    {"refresh": "every_n", "refresh_every": 3},
]
every_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(map(str, way.values())))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Thinker, ...]:
    """A Llama that writes and a Gemma that it attends to."""
    return thinkers(tmp_path_factory.mktemp("pair"), ["llama", "gemma"])


def endless(pair: tuple[Thinker, ...], **settings: Any) -> Group:
    """A group whose primary never ends a text by itself."""
    made = group(pair, opened=0.4, **settings)
    endless = replace(made.thinkers[0], ends=frozenset())
    return Group((endless, *made.thinkers[1:]), made.interaction)


def test_the_refresh_of_each_token_follows_what_is_written(pair: tuple[Thinker, ...]) -> None:
    texts = {
        str(way): [c.text for c in write(engine(endless(pair, **way)), ask(1, PROMPTS[0]))[0]]
        for way in ({}, {"refresh": "token"})
    }

    assert len({tuple(said) for said in texts.values()}) == 2


@every_way
def test_a_batch_says_what_each_says_alone(pair: tuple[Thinker, ...], way: dict[str, Any]) -> None:
    made = endless(pair, **way)
    n_tokens = 16 if way else 64
    requests = [ask(i, text, max_tokens=n_tokens, logprobs=0) for i, text in enumerate(PROMPTS)]

    together, _ = write(engine(made), *requests)
    alone = [write(engine(made), request)[0][0] for request in requests]

    for one, other in zip(together, alone, strict=True):
        assert one.text == other.text
        assert one.completion_tokens == n_tokens
        pairs = zip(one.samples[0].logprobs or (), other.samples[0].logprobs or (), strict=True)
        assert all(abs(a.logprob - b.logprob) < 1e-4 for a, b in pairs)


@pytest.mark.parametrize("way", WAYS[:4], ids=lambda way: "-".join(map(str, way.values())))
def test_what_was_cached_changes_nothing(pair: tuple[Thinker, ...], way: dict[str, Any]) -> None:
    made = endless(pair, **way)
    n_tokens = 20 if way else 64
    for number, text in enumerate(PROMPTS[:3] if way else PROMPTS):
        ((said,), _) = write(engine(made), ask(number, text, max_tokens=n_tokens, logprobs=0))
        anew = without_cache(made, text, n_tokens)
        assert said.text == anew[0]
        pairs = zip(said.samples[0].logprobs or (), anew[1], strict=True)
        assert all(abs(a.logprob - b) < 1e-4 for a, b in pairs)


def without_cache(made: Group, text: str, n_tokens: int) -> tuple[str, list[float]]:
    """A greedy text, all experts reading all of it again for each token."""
    primary, peer = made.thinkers
    messages = (Message("user", text),)
    prompt, of_peer = (read_prompt(t.tokenizer, messages) for t in (primary, peer))
    reading, said, tokens, logprobs = prompt, "", list[int](), list[float]()
    before = list(prompt.tokens[-4:])
    for _ in range(n_tokens):
        memories = made.memories([made.listen(1, [of_peer])], primary.device)
        with torch.no_grad():
            scores = made.logits(0, [reading], memories, 1)[0, -1].log_softmax(-1)
        tokens.append(int(scores.argmax()))
        logprobs.append(float(scores[tokens[-1]]))
        said = primary.tokenizer.decode(before + tokens)[len(primary.tokenizer.decode(before)) :]
        reading = reading.then(tokens[-1:], [len(said)], [0])
    return said, logprobs


@every_way
def test_the_likelihood_of_a_text_is_that_of_having_written_it(
    pair: tuple[Thinker, ...], way: dict[str, Any]
) -> None:
    made = group(pair, opened=0.4, **way)
    text = "oslo red"

    ((scored,), _) = write(engine(made), ask(1, PROMPTS[0], continuation=text))

    primary, peer = made.thinkers
    messages = (Message("user", PROMPTS[0]),)
    prompt, of_peer = (read_prompt(t.tokenizer, messages) for t in (primary, peer))
    reading = read_answer(primary.tokenizer, prompt, text)
    heard = made.listen(1, [of_peer])
    if made.settings.refresh != "prompt":
        followed = read_answer(peer.tokenizer, of_peer, text)
        heard = made.hear(1, [in_steps(followed, reading, len(prompt), made.settings)])
    with torch.no_grad():
        memories = made.memories([heard], primary.device)
        logits = made.logits(0, [reading], memories, len(reading))[0]
    tokens = reading.tokens[len(prompt) :]
    expected = [float(logits[len(prompt) - 1 + i].log_softmax(-1)[t]) for i, t in enumerate(tokens)]
    told = [token.logprob for token in scored.samples[0].logprobs or ()]
    assert scored.text == text
    assert scored.samples[0].finish_reason == "scored"
    assert told == pytest.approx(expected, abs=1e-4)


def test_what_is_streamed_adds_up_to_the_text(pair: tuple[Thinker, ...]) -> None:
    made = engine(endless(pair))
    requests = [ask(i, text, max_tokens=40) for i, text in enumerate(PROMPTS)]

    done, streamed = write(made, *requests)

    assert {c.request_id: c.text for c in done} == streamed


def test_a_stop_ends_a_text_before_it_and_is_never_streamed(pair: tuple[Thinker, ...]) -> None:
    made = endless(pair)
    ((whole,), _) = write(engine(made), ask(1, PROMPTS[0], max_tokens=40))
    stop = whole.text[12:16]

    ((cut,), streamed) = write(engine(made), ask(1, PROMPTS[0], max_tokens=40, stop=(stop,)))

    assert cut.text == whole.text[: whole.text.find(stop)]
    assert streamed.get("q/1", "") == cut.text
    assert cut.samples[0].finish_reason == "stop"


def test_a_text_ends_at_its_limit_or_at_an_end_of_text(pair: tuple[Thinker, ...]) -> None:
    made = endless(pair)
    ((whole,), _) = write(engine(made), ask(1, PROMPTS[0], max_tokens=10, logprobs=1))
    first = made.thinkers[0]
    ending = replace(first, ends=frozenset(range(first.network.config.vocab_size)))

    ((ended,), _) = write(
        engine(Group((ending, made.thinkers[1]), made.interaction)),
        ask(1, PROMPTS[0], max_tokens=10),
    )

    assert whole.samples[0].finish_reason == "length"
    assert whole.completion_tokens == 10
    assert ended.samples[0].finish_reason == "stop"
    assert ended.text == ""
    assert ended.completion_tokens == 1


def test_seeds_repeat_texts_and_samples_differ(pair: tuple[Thinker, ...]) -> None:
    made = engine(endless(pair))
    drawn = {"temperature": 1.0, "max_tokens": 20, "seed": 5, "n": 3}

    ((one,), _) = write(made, ask(1, PROMPTS[0], **drawn))
    ((again,), _) = write(made, ask(2, PROMPTS[0], **drawn))

    texts = [sample.text for sample in one.samples]
    assert texts == [sample.text for sample in again.samples]
    assert len(set(texts)) == 3
    assert one.completion_tokens == 60


def test_log_probabilities_are_told_with_the_likeliest_tokens(pair: tuple[Thinker, ...]) -> None:
    ((said,), _) = write(engine(endless(pair)), ask(1, PROMPTS[0], max_tokens=5, logprobs=3))

    tokens = said.samples[0].logprobs or ()
    assert len(tokens) == 5
    for token in tokens:
        assert len(token.top) == 3
        assert token.top[0] == (token.token, pytest.approx(token.logprob))
        assert sum(math.exp(logprob) for _, logprob in token.top) <= 1 + 1e-6


def test_who_comes_later_is_written_beside_those_that_are_there(pair: tuple[Thinker, ...]) -> None:
    made, late = engine(endless(pair), max_texts=2), ask(3, PROMPTS[2], max_tokens=6)
    expected = write(engine(endless(pair)), late)[0][0].text
    for request in (ask(1, PROMPTS[0], max_tokens=8), ask(2, PROMPTS[1], max_tokens=4)):
        assert made.add(request, stream=False) is None
    made.step()
    assert made.add(late, stream=False) is None

    done: dict[str, str] = {}
    while len(done) < 3:
        done |= {e.request_id: e.text for e in made.step() if isinstance(e, Completion)}

    assert list(done) == ["q/2", "q/1", "q/3"]
    assert done["q/3"] == expected


def test_what_is_aborted_leaves_and_the_others_go_on(pair: tuple[Thinker, ...]) -> None:
    made = engine(endless(pair))
    requests = [ask(i, text, max_tokens=12) for i, text in enumerate(PROMPTS[:3])]
    expected = write(engine(endless(pair)), requests[2])[0][0].text
    for request in requests:
        made.add(request, stream=False)
    made.step()

    made.abort(["q/0", "q/1", "nobody"])
    done: list[Completion] = []
    while not done:
        done = [event for event in made.step() if isinstance(event, Completion)]

    assert [(c.request_id, c.text) for c in done] == [("q/2", expected)]


def test_any_member_that_was_trained_to_may_write(pair: tuple[Thinker, ...]) -> None:
    made = engine(group(pair, opened=0.4))

    ((first, second, unsaid), _) = write(
        made,
        ask(1, PROMPTS[0], peers=("llama", "gemma"), mix="attend", max_tokens=12),
        ask(2, PROMPTS[0], peers=("gemma", "llama"), mix="attend", max_tokens=12),
        ask(3, PROMPTS[0], max_tokens=12),
    )

    assert first.text == unsaid.text != second.text
    assert second.peers == ("gemma", "llama")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"schema": {}}, "cannot be held to a schema"),
        ({"mix": "average"}, "ask for mix 'attend'"),
        ({"peers": ("llama", "ann")}, "'ann' is none of the group's experts"),
        ({"peers": ("llama", "llama")}, "named twice"),
        ({"peers": ("llama",)}, "needs a peer"),
        ({"peers": ("gemma", "llama")}, "'gemma' was not trained to write"),
    ],
)
def test_what_a_group_cannot_do_is_refused(
    pair: tuple[Thinker, ...], said: dict[str, Any], reason: str
) -> None:
    made = engine(group(pair))
    made._primaries = ("llama",)  # pyright: ignore[reportPrivateUsage]

    failure = made.add(ask(1, PROMPTS[0], **said), stream=False)

    assert failure is not None
    assert failure.kind == "refused"
    assert reason in failure.message


def test_a_prompt_that_leaves_no_room_is_too_long(pair: tuple[Thinker, ...]) -> None:
    failure = engine(group(pair), context=40).add(ask(1, "red blue " * 40), stream=False)

    assert failure is not None
    assert failure.kind == "too_long"
    assert "the context is 40" in failure.message


def test_a_peer_that_cannot_read_all_of_a_prompt_is_told_of_once(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    long = thinkers(tmp_path / "long", ["llama"], context=600)
    short = thinkers(tmp_path / "short", ["gemma"], context=64)
    made = engine(group((*long, *short)))

    with caplog.at_level(logging.WARNING):
        write(made, *(ask(i, "red blue " * 40, max_tokens=2) for i in range(3)))

    assert len([r for r in caplog.records if "reads only the last 64" in r.getMessage()]) == 1
