"""States of frozen experts on disk: made once, and the same as if they were made each time."""

# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import pytest
import torch
from torch import Tensor

from composer.errors import ConfigError
from composer.latent.members import Thinker, load_thinker
from composer.latent.reading import Reading, read_prompt
from composer.latent.states_cache import StatesCache
from composer.types import Message
from tests.composer.latent.groups import PROMPTS
from tests.latent_models import save_tiny_model, tiny_member

LEVELS = 2


@dataclass(frozen=True, eq=False)
class Counted(Thinker):
    """Notes how many texts it reads, and how many it thinks on."""

    read: list[int] = field(default_factory=list[int])
    thought: list[int] = field(default_factory=list[int])

    def states(self, readings: Sequence[Reading], levels: int) -> list[Tensor]:
        self.read.append(len(readings))
        return super().states(readings, levels)

    def think(self, readings: Sequence[Reading], n_tokens: int) -> list[Reading]:
        self.thought.append(len(readings))
        return super().think(readings, n_tokens)


def counted(thinker: Thinker) -> Counted:
    return Counted(**{f.name: getattr(thinker, f.name) for f in fields(Thinker)})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model."""
    return save_tiny_model(tmp_path_factory.mktemp("models") / "llama", "llama", 1)


@pytest.fixture
def thinker(folder: Path) -> Counted:
    """An expert that counts what it is asked."""
    return counted(load_thinker(tiny_member("ann", folder), dtype=torch.float32))


@pytest.fixture
def readings(thinker: Counted) -> list[Reading]:
    """Prompts of all lengths."""
    return [read_prompt(thinker.tokenizer, (Message("user", text),)) for text in PROMPTS]


def test_states_are_those_of_the_expert_and_made_once(
    tmp_path: Path, thinker: Counted, readings: list[Reading]
) -> None:
    cache = StatesCache(tmp_path)

    first = cache.states(thinker, readings, LEVELS, batch=3)
    again = StatesCache(tmp_path).states(thinker, readings, LEVELS)

    assert thinker.read == [3, 3, 2]
    for states, kept, reading in zip(first, again, readings, strict=True):
        assert torch.equal(states, kept)
        (alone,) = Thinker.states(thinker, [reading], LEVELS)
        torch.testing.assert_close(states, alone, rtol=1e-4, atol=1e-4)


def test_a_text_that_comes_twice_is_read_once(
    tmp_path: Path, thinker: Counted, readings: list[Reading]
) -> None:
    found = StatesCache(tmp_path).states(thinker, [readings[0]] * 3, LEVELS)

    assert thinker.read == [1]
    assert len(found) == 3


def test_filling_makes_what_lacks_and_tells_how_far_it_is(
    tmp_path: Path, thinker: Counted, readings: list[Reading]
) -> None:
    cache = StatesCache(tmp_path)
    cache.states(thinker, readings[:2], LEVELS)
    told: list[tuple[int, int]] = []

    def tell(done: int, total: int) -> None:
        told.append((done, total))

    cache.fill(thinker, [*readings, readings[0]], LEVELS, batch=4, on_progress=tell)
    cache.fill(thinker, readings, LEVELS)

    assert thinker.read == [2, 4, 2]
    assert told == [(2, 8), (6, 8), (8, 8)]


def test_texts_of_like_lengths_are_read_together(
    tmp_path: Path, thinker: Counted, readings: list[Reading]
) -> None:
    lengths: list[list[int]] = []

    class Watched(Counted):
        def states(self, readings: Sequence[Reading], levels: int) -> list[Tensor]:
            lengths.append([len(reading) for reading in readings])
            return super().states(readings, levels)

    watched = Watched(**{f.name: getattr(thinker, f.name) for f in fields(Thinker)})
    StatesCache(tmp_path).fill(watched, readings, LEVELS, batch=2)

    flat = [length for batch in lengths for length in batch]
    assert flat == sorted(flat, reverse=True)


@pytest.mark.parametrize("spoil", [b"", b"12345678", None])
def test_a_file_that_is_broken_is_made_anew(
    tmp_path: Path, thinker: Counted, readings: list[Reading], spoil: bytes | None
) -> None:
    cache = StatesCache(tmp_path)
    (was,) = cache.states(thinker, readings[:1], LEVELS)
    (file,) = tmp_path.rglob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-8] if spoil is None else spoil)

    cache.fill(thinker, readings[:1], LEVELS)
    found = cache.get(thinker, readings[0].tokens, LEVELS)

    assert thinker.read == [1, 1]
    assert found is not None
    assert torch.equal(found, was)


def test_other_levels_weights_or_types_are_other_states(
    tmp_path: Path, thinker: Counted, readings: list[Reading], folder: Path
) -> None:
    cache = StatesCache(tmp_path)
    tokens = readings[0].tokens
    cache.states(thinker, readings[:1], LEVELS)
    halved = load_thinker(tiny_member("ann", folder), dtype=torch.bfloat16)
    other = load_thinker(tiny_member("ann", save_tiny_model(tmp_path / "other", "llama", 2)))

    assert cache.get(thinker, tokens, LEVELS) is not None
    assert cache.get(thinker, tokens, LEVELS + 1) is None
    assert cache.get(halved, tokens, LEVELS) is None
    assert cache.get(other, tokens, LEVELS) is None


def test_what_is_thought_is_kept_as_well(
    tmp_path: Path, thinker: Counted, readings: list[Reading]
) -> None:
    cache = StatesCache(tmp_path)

    first = cache.thoughts(thinker, readings, 4, batch=5)
    again = StatesCache(tmp_path).thoughts(thinker, readings, 4)
    cache.thoughts(thinker, readings[:1], 5)

    assert thinker.thought == [5, 3, 1]
    assert first == again
    for thought, reading in zip(first, readings, strict=True):
        assert thought == Thinker.think(thinker, [reading], 4)[0]


def test_without_thinking_nobody_is_asked(
    tmp_path: Path, thinker: Counted, readings: list[Reading]
) -> None:
    assert StatesCache(tmp_path).thoughts(thinker, readings, 0) == readings
    assert thinker.thought == []
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_an_error(
    tmp_path: Path, thinker: Counted, readings: list[Reading]
) -> None:
    (tmp_path / "states").touch()

    with pytest.raises(ConfigError, match="cannot be written"):
        StatesCache(tmp_path / "states").fill(thinker, readings, LEVELS)
