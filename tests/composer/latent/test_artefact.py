"""What was trained, on disk: it comes back as it was, and beside nothing else."""

# torch is typed in part.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import ConfigError
from composer.latent.artefact import (
    Artefact,
    TrainedMember,
    check_members,
    describe_members,
    load_interaction,
    make_interaction,
    read_artefact,
    save_artefact,
)
from composer.latent.interaction import Interaction
from composer.latent.members import Thinker, load_thinker
from composer.latent.settings import LatentSettings
from tests.latent_models import save_tiny_model, tiny_member

SMALL = LatentSettings(levels=2, width=16, heads=2)
MEMBERS = (
    TrainedMember("ann", "org/ann", None, "llama", 24, 4, "a" * 32),
    TrainedMember("bea", "package:bea", "adapters/bea", "gemma3_text", 32, 3, "b" * 32),
)
ARTEFACT = Artefact(MEMBERS, ("bea",), SMALL, "float32", {"steps": 3})


def interaction(artefact: Artefact = ARTEFACT, seed: int = 0) -> Interaction:
    numbers = [artefact.names.index(name) for name in artefact.primaries]
    made = make_interaction([m.width for m in artefact.members], numbers, artefact.settings)
    torch.manual_seed(seed)
    for weight in made.parameters():
        torch.nn.init.normal_(weight)
    return made


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Two experts of which the second may write."""
    save_artefact(tmp_path / "group", ARTEFACT, interaction())
    return tmp_path / "group"


@given(
    levels=st.integers(1, 3),
    heads=st.integers(1, 3),
    gate=st.sampled_from(["scalar", "channel", "none"]),
    primaries=st.sampled_from([("ann",), ("bea",), ("bea", "ann")]),
    seed=st.integers(0, 9),
)
@settings(max_examples=15)
def test_what_is_saved_in_float32_comes_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory,
    levels: int,
    heads: int,
    gate: Any,
    primaries: tuple[str, ...],
    seed: int,
) -> None:
    folder = tmp_path_factory.mktemp("group")
    shape = LatentSettings(levels=levels, width=8 * heads, heads=heads, gate=gate)
    artefact = replace(ARTEFACT, settings=shape, primaries=primaries)
    made = interaction(artefact, seed)

    save_artefact(folder, artefact, made)
    found = read_artefact(folder)
    again = load_interaction(folder, found)

    assert found == replace(artefact, weights=found.weights)
    weights = again.state_dict()
    assert {name: t.tolist() for name, t in made.state_dict().items()} == {
        name: t.tolist() for name, t in weights.items()
    }


def test_bfloat16_is_half_the_bytes_and_comes_back_as_float32(tmp_path: Path) -> None:
    made = interaction()
    for dtype in ("float32", "bfloat16"):
        save_artefact(tmp_path / dtype, replace(ARTEFACT, dtype=dtype), made)

    again = load_interaction(tmp_path / "bfloat16", read_artefact(tmp_path / "bfloat16"))

    sizes = [(tmp_path / d / "latent.safetensors").stat().st_size for d in ("bfloat16", "float32")]
    assert sizes[0] < 0.7 * sizes[1]
    for weight, was in zip(again.parameters(), made.parameters(), strict=True):
        assert weight.dtype == torch.float32
        torch.testing.assert_close(weight, was, rtol=1e-2, atol=1e-6)


def test_a_folder_may_be_written_over(saved: Path) -> None:
    other = replace(ARTEFACT, training={"steps": 4})

    save_artefact(saved, other, interaction(seed=1))

    found = read_artefact(saved)
    assert found.training == {"steps": 4}
    assert load_interaction(saved, found)
    assert {path.name for path in saved.iterdir()} == {"latent.json", "latent.safetensors"}


def test_making_an_interaction_leaves_torchs_randomness_alone() -> None:
    before = torch.random.get_rng_state()

    one, other = (make_interaction([8, 8], [0], SMALL, seed=3) for _ in range(2))

    assert torch.equal(torch.random.get_rng_state(), before)
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def _gone(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _holding(name: str, text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_text(text, "utf-8")

    return write


def _edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        told = json.loads((folder / "latent.json").read_text("utf-8"))
        change(told)
        (folder / "latent.json").write_text(json.dumps(told), "utf-8")

    return edit


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_gone("latent.json"), "No such file.*composer latent fit"),
        (_holding("latent.json", "{"), "latent.json: is broken"),
        (_holding("latent.json", "[]"), "latent.json: is broken"),
        (_edit(lambda told: told.update(version=2)), "is of version 2, and 1 is read here"),
        (_edit(lambda told: told.update(more=1)), "is broken .*more"),
        (_edit(lambda told: told["settings"].update(levels=0)), "is broken .*settings.levels"),
        (_edit(lambda told: told["members"][0].pop("width")), "is broken .*members.0.width"),
        (_edit(lambda told: told.update(primaries=["cy"])), "primaries .*'cy'.* are no members"),
        (_edit(lambda told: told.update(primaries=[])), "are no members"),
    ],
)
def test_a_latent_json_that_is_broken_is_refused(
    saved: Path, spoil: Callable[[Path], None], said: str
) -> None:
    spoil(saved)

    with pytest.raises(ConfigError, match=said):
        read_artefact(saved)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_gone("latent.safetensors"), "is broken .No such file"),
        (_holding("latent.safetensors", "1234"), "not what latent.json was"),
        (_edit(lambda told: told["members"][0].update(width=8)), "is broken .Error"),
    ],
)
def test_weights_that_are_broken_are_refused(
    saved: Path, spoil: Callable[[Path], None], said: str
) -> None:
    spoil(saved)

    with pytest.raises(ConfigError, match=said):
        load_interaction(saved, read_artefact(saved))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Thinker, ...]:
    """Two experts of different families."""
    folder = tmp_path_factory.mktemp("models")
    return tuple(
        load_thinker(tiny_member(family, save_tiny_model(folder / family, family, 1)))
        for family in ("llama", "gemma")
    )


def test_members_are_told_by_their_weights_and_not_by_their_folders(
    pair: tuple[Thinker, ...], tmp_path: Path
) -> None:
    members = describe_members([tiny_member(t.name, tmp_path) for t in pair], pair)
    artefact = replace(ARTEFACT, members=members, primaries=("llama",))

    check_members(artefact, pair[::-1], tmp_path)

    assert [(m.model_type, m.width, m.depth) for m in members] == [
        ("llama", 32, 4),
        ("gemma3_text", 32, 4),
    ]


def test_an_expert_that_is_missing_is_named(pair: tuple[Thinker, ...], tmp_path: Path) -> None:
    members = describe_members([tiny_member(t.name, tmp_path) for t in pair], pair)
    artefact = replace(ARTEFACT, members=members, primaries=("llama",))

    with pytest.raises(ConfigError, match=r"no expert 'gemma' .* fit anew with `composer latent"):
        check_members(artefact, pair[:1], tmp_path)


def test_an_expert_whose_weights_changed_is_refused(
    pair: tuple[Thinker, ...], tmp_path: Path
) -> None:
    members = describe_members([tiny_member(t.name, tmp_path) for t in pair], pair)
    artefact = replace(ARTEFACT, members=members, primaries=("llama",))
    folder = save_tiny_model(tmp_path / "other", "gemma", 2)
    other = load_thinker(tiny_member("gemma", folder))

    with pytest.raises(ConfigError, match=r"expert 'gemma' has other weights than .*bring those"):
        check_members(artefact, (pair[0], other), tmp_path)
