"""A primary that attends to its peers: itself until something is learned."""

# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from composer.errors import ConfigError
from composer.latent.families import check_family, hooked, level_layers
from composer.latent.group import Group
from composer.latent.members import Thinker
from composer.latent.reading import Reading, in_steps, read_answer, read_prompt
from composer.types import Message
from tests.composer.latent.groups import PROMPTS, group, thinkers
from tests.latent_models import Family

FAMILIES: tuple[Family, ...] = ("llama", "gemma", "qwen", "mistral")


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> tuple[Thinker, ...]:
    """An expert of each family, of different depths and widths."""
    folder = tmp_path_factory.mktemp("four")
    return tuple(
        thinkers(folder, [family], layers=3 + i, width=32 + 8 * i)[0]
        for i, family in enumerate(FAMILIES)
    )


def read(thinker: Thinker, texts: Sequence[str] = PROMPTS) -> list[Reading]:
    return [read_prompt(thinker.tokenizer, (Message("user", text),)) for text in texts]


def scores(made: Group, primary: int = 0, answer: str = "oslo red") -> torch.Tensor:
    """Of the answer's tokens behind each prompt."""
    peers = [i for i in range(len(made.thinkers)) if i != primary]
    thinker = made.thinkers[primary]
    heard = [made.listen(peer, read(made.thinkers[peer])) for peer in peers]
    readings = [read_answer(thinker.tokenizer, prompt, answer) for prompt in read(thinker)]
    memories = made.memories(heard, thinker.device)
    return made.logits(primary, readings, memories, 2)


def alone(thinker: Thinker, answer: str = "oslo red") -> torch.Tensor:
    """The same of the expert by itself, at equal shapes."""
    readings = [read_answer(thinker.tokenizer, prompt, answer) for prompt in read(thinker)]
    longest = max(map(len, readings))
    tokens = torch.zeros(len(readings), longest, dtype=torch.int64)
    for row, reading in enumerate(readings):
        tokens[row, longest - len(reading) :] = torch.tensor(reading.tokens)
    mask = torch.zeros_like(tokens)
    for row, reading in enumerate(readings):
        mask[row, longest - len(reading) :] = 1
    places = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        said = thinker.network(
            input_ids=tokens, attention_mask=mask, position_ids=places, logits_to_keep=2
        )
    return said.logits


@pytest.mark.parametrize("primary", range(len(FAMILIES)), ids=FAMILIES)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"attend_self": True},
        {"gate": "channel"},
        {"gate": "none"},
        {"insertion": "before", "attend_self": True},
    ],
)
def test_an_untrained_primary_is_itself_to_the_last_bit(
    four: tuple[Thinker, ...], primary: int, settings: dict[str, Any]
) -> None:
    made = group(four, levels=3, **settings)

    with torch.no_grad():
        together = scores(made, primary)

    assert torch.equal(together, alone(four[primary]))


@pytest.mark.parametrize(
    "settings",
    [{"gate": "scalar"}, {"gate": "channel"}, {"gate": "none"}, {"insertion": "before"}],
)
def test_gradients_reach_every_trained_tensor_that_has_a_part_and_no_frozen_one(
    four: tuple[Thinker, ...], settings: dict[str, Any]
) -> None:
    made = group(four[:2], opened=0.1, levels=3, attend_self=True, **settings)

    scores(made).logsumexp(-1).sum().backward()

    reached = {
        name: parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        for name, parameter in made.interaction.named_parameters()
    }
    # Only the first of the two wrote: how the other one would is of no account here.
    ours = {name for name in reached if not name.endswith((".up.1.weight", ".gate.1"))}
    assert {name for name in ours if not reached[name]} == set()
    assert all(p.grad is None for thinker in four for p in thinker.network.parameters())


def test_an_open_gate_lets_peers_change_what_is_said(four: tuple[Thinker, ...]) -> None:
    made = group(four, opened=0.5, levels=3)

    with torch.no_grad():
        changed = scores(made) - alone(four[0])

    assert float(changed.abs().max()) > 0.01


def test_a_primary_hears_each_level_behind_a_stack_or_before_it(four: tuple[Thinker, ...]) -> None:
    thinker = four[1]
    assert thinker.hears_at(2, "after") == thinker.layers(2) == (1, 3)
    assert thinker.hears_at(2, "before") == (-1, 1)
    embedded = group((thinker, four[0]), opened=0.5, levels=1, insertion="before")
    ended = Group(embedded.thinkers, copy.deepcopy(embedded.interaction))
    ended.interaction.settings = embedded.settings.model_copy(update={"insertion": "after"})
    seen: list[torch.Tensor] = []

    def told(made: Group) -> torch.Tensor:
        seen.clear()
        with torch.no_grad(), hooked(thinker.network, [0], lambda _, state: seen.append(state)):
            scores(made)
        return seen[0]

    untold = told(group((thinker, four[0]), levels=1))
    assert torch.equal(told(ended), untold)
    assert not torch.equal(told(embedded), untold)


def test_what_peers_read_is_what_counts(four: tuple[Thinker, ...]) -> None:
    made, (primary, peer) = group(four[:2], opened=0.5, levels=3), four[:2]
    prompt = read(primary, ["red"])
    with torch.no_grad():
        said = [
            made.logits(
                0, prompt, made.memories([made.listen(1, read(peer, [text]))], primary.device), 1
            )
            for text in ("one", "two", "one")
        ]

    assert torch.equal(said[0], said[2])
    assert float((said[0] - said[1]).abs().max()) > 1e-3


def test_padding_of_a_batch_changes_nothing(four: tuple[Thinker, ...]) -> None:
    made = group(four, opened=0.5, levels=3)
    thinker = four[0]

    def said(texts: Sequence[str]) -> torch.Tensor:
        heard = [made.listen(peer, read(four[peer], texts)) for peer in (1, 2, 3)]
        memories = made.memories(heard, thinker.device)
        with torch.no_grad():
            return made.logits(0, read(thinker, texts), memories, 1)

    together = said(PROMPTS)
    single = torch.cat([said([text]) for text in PROMPTS])
    assert torch.allclose(together, single, atol=1e-4)


def test_text_that_is_not_yet_written_is_not_seen(four: tuple[Thinker, ...]) -> None:
    made, (primary, peer) = group(four[:2], opened=0.5, levels=3, refresh="token"), four[:2]

    def said(written: str) -> torch.Tensor:
        (prompt,), (of_peer,) = read(primary, ["red"]), read(peer, ["red"])
        reading = read_answer(primary.tokenizer, prompt, written)
        heard = made.hear(1, [read_answer(peer.tokenizer, of_peer, written)])
        memories = made.memories([heard], primary.device)
        with torch.no_grad():
            return made.logits(0, [reading], memories, len(reading))[0, : len(prompt) + 1]

    assert torch.allclose(said("one two three"), said("one red blue"), atol=1e-5)
    assert not torch.allclose(said("one two three"), said("green red blue"), atol=1e-3)


def test_a_peer_that_reads_now_and_then_is_seen_from_its_next_turn_on(
    four: tuple[Thinker, ...],
) -> None:
    primary, peer = four[:2]
    settings = group(four[:2], refresh="every_n", refresh_every=2).settings
    (prompt,), (of_peer,) = read(primary, ["red"]), read(peer, ["red"])
    text = "one two three red"
    own = read_answer(primary.tokenizer, prompt, text)
    turns = own.places[len(prompt) + 1 :: 2]

    stepped = in_steps(read_answer(peer.tokenizer, of_peer, text), own, len(prompt), settings)

    for place, since in zip(
        stepped.places[len(of_peer) :], stepped.since[len(of_peer) :], strict=True
    ):
        assert since >= place
        assert since in turns or place > turns[-1]


def test_a_peer_that_thinks_ahead_is_heard_at_what_it_thought(four: tuple[Thinker, ...]) -> None:
    plain, ahead = group(four[:2]), group(four[:2], think_tokens=5)
    prompts = read(four[1])

    heard, thought = plain.listen(1, prompts), ahead.listen(1, prompts)

    assert all(
        len(prompt) <= len(said) <= len(prompt) + 5
        for prompt, said in zip(heard.readings, thought.readings, strict=True)
    )
    assert any(
        len(said) > len(prompt) for prompt, said in zip(prompts, thought.readings, strict=True)
    )
    for states, reading in zip(thought.states, thought.readings, strict=True):
        assert states.shape[1] == len(reading)


def test_a_peer_reads_the_end_of_what_is_longer_than_its_context(tmp_path: Path) -> None:
    short = thinkers(tmp_path, ["llama", "gemma"], context=64)
    prompt = read(short[1], ["red blue " * 60])

    heard = group(short).listen(1, prompt)

    assert len(heard.readings[0]) == 64
    assert heard.readings[0].is_cut
    assert heard.readings[0].tokens[-63:] == prompt[0].tokens[-63:]


def test_levels_lie_at_equal_parts_of_a_depth() -> None:
    assert level_layers(30, 4) == (7, 14, 21, 29)
    assert level_layers(18, 3) == (5, 11, 17)
    with pytest.raises(ConfigError, match="5 levels are more than a model of 4 layers"):
        level_layers(4, 5)


def test_an_unknown_family_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(
        ConfigError, match=r"expert 'ann': .* type 'mamba'; it reads Llama \(llama\)"
    ):
        check_family("ann", "mamba")
