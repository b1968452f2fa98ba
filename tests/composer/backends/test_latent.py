"""A group behind the seam of all backends, from what was trained for it on disk."""

# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from composer.backends.latent import LatentBackend
from composer.backends.resolution import resolve_spec
from composer.errors import ConfigError
from composer.types import Completion, Delta, EngineSpec, Failure
from tests.composer.latent.groups import ask, save_group
from tests.latent_models import save_tiny_model


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> EngineSpec:
    """A Llama that may write and a Gemma, with what was trained for them."""
    return save_group(tmp_path_factory.mktemp("group"), ["llama", "gemma"])


async def loaded(spec: EngineSpec) -> LatentBackend:
    backend = LatentBackend()
    await backend.load(spec)
    return backend


async def test_it_streams_and_answers_and_can_be_loaded_again(spec: EngineSpec) -> None:
    backend = await loaded(spec)
    requests = [ask(i, "what is the capital", max_tokens=8) for i in range(3)]
    events = [event async for event in backend.generate(requests, stream=True)]
    await backend.unload()
    await backend.load(spec)
    again = [event async for event in backend.generate(requests, stream=False)]
    await backend.unload()

    done = {e.request_id: e for e in events if isinstance(e, Completion)}
    assert set(done) == {r.id for r in requests}
    for request in requests:
        text = "".join(
            e.text for e in events if isinstance(e, Delta) and e.request_id == request.id
        )
        assert done[request.id].text == text
    assert {e.request_id: e.text for e in again if isinstance(e, Completion)} == {
        i: e.text for i, e in done.items()
    }
    assert not any(isinstance(e, Delta) for e in again)


async def test_an_abort_ends_a_request_as_cancelled(spec: EngineSpec) -> None:
    backend = await loaded(replace(spec, engine_args={"dtype": "float32"}))
    request = ask(1, "red", max_tokens=200)
    events: list[object] = []
    async with asyncio.timeout(20):
        async for event in backend.generate([request], stream=True):
            events.append(event)
            if len(events) == 1:
                await backend.abort([request.id])
    await backend.unload()

    assert isinstance(events[-1], (Failure, Completion))
    if isinstance(events[-1], Failure):
        assert events[-1].kind == "cancelled"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"max_num_seq": 3}, "no argument 'max_num_seq'; did you mean 'max_num_seqs'"),
        ({"dtype": "float16"}, "engine_args.dtype: input should be 'bfloat16' or 'float32'"),
        ({"devices": {"ann": "cpu"}}, "engine_args.devices names 'ann', no member"),
    ],
)
async def test_arguments_that_it_does_not_have_are_refused(
    spec: EngineSpec, args: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        await loaded(replace(spec, engine_args=args))


async def test_what_was_trained_for_others_is_refused(spec: EngineSpec, tmp_path: Path) -> None:
    one, two = spec.members
    stranger = replace(two, expert="ann")
    with pytest.raises(ConfigError, match=r"trained for \['llama', 'gemma'\], and its members"):
        await loaded(replace(spec, members=(one, stranger)))

    other = save_tiny_model(tmp_path / "other", "gemma", 99)
    changed = replace(two, model_path=str(other))
    with pytest.raises(ConfigError, match="expert 'gemma' has other weights"):
        await loaded(replace(spec, members=(one, changed)))


def test_a_group_is_resolved_with_all_its_members(spec: EngineSpec, tmp_path: Path) -> None:
    unresolved = replace(
        spec,
        model_path=None,
        members=tuple(replace(m, model_path=None) for m in spec.members),
    )

    assert resolve_spec(unresolved, models=tmp_path) == spec
    with pytest.raises(ConfigError, match=r"no latent.json in .*; name a folder that"):
        resolve_spec(replace(unresolved, source=str(tmp_path)), models=tmp_path)
