from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from composer.assembly import compose
from composer.errors import AggregationError, ConfigError
from composer.experts import (
    AggregatorConfig,
    Composition,
    Expert,
    PoolSettings,
    Registry,
    RouterConfig,
)
from composer.orchestrator import Composer
from composer.sync import SyncComposer
from composer.types import Answer, Delta, Query

if TYPE_CHECKING:
    from composer.types import Float32Array


class NoEncoder:
    """For compositions that embed nothing."""

    dimension = 1

    def encode(self, texts: Sequence[str]) -> Float32Array:
        raise AssertionError("nothing is to be embedded")


@pytest.fixture
def composer(tmp_path: Path) -> Composer:
    """Ann alone, who says what she heard and refuses to hear of nonsense."""
    args = {"text": "ann heard {prompt}", "failures": {"nonsense": "refused"}}
    ann = Expert.model_validate({"name": "ann", "engine": "scripted", "engine_args": args})
    auto = Composition(
        router=RouterConfig.model_validate({"name": "fixed", "expert": "ann"}),
        aggregator=AggregatorConfig(name="best"),
    )
    settings = PoolSettings(memory_gib=1, warm_spares=0)
    registry = Registry({"ann": ann}, {"auto": auto}, settings, tmp_path / "experts.yaml")
    return compose(registry, cache=tmp_path, encoder=NoEncoder())


def is_async(member: object) -> bool:
    return inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member)


def public(members: Mapping[str, Any], keep: Callable[[object], bool]) -> dict[str, Any]:
    return {n: m for n, m in members.items() if not n.startswith("_") and keep(m)}


METHODS = public(vars(Composer), is_async)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_async_method_has_a_sync_one_of_the_same_signature(name: str) -> None:
    theirs = inspect.signature(METHODS[name])
    ours = inspect.signature(getattr(SyncComposer, name))
    assert ours.parameters == theirs.parameters
    assert ours.return_annotation == theirs.return_annotation.replace("AsyncGenerator", "Generator")


def test_there_is_nothing_in_the_sync_composer_that_the_other_has_not() -> None:
    assert set(public(vars(SyncComposer), callable)) == set(METHODS)
    ours, theirs = SyncComposer.from_yaml, Composer.from_yaml
    assert inspect.signature(ours).parameters == inspect.signature(theirs).parameters


def test_it_survives_a_second_call_and_a_third(composer: Composer) -> None:
    with SyncComposer(composer) as sync:
        first, second = sync.ask("one"), sync.ask(Query("q", ()), composition="ann")
        *deltas, third = sync.stream("three")
    assert first.text == "ann heard one"
    assert second.query_id == "q"
    assert isinstance(third, Answer)
    assert "".join(e.text for e in deltas if isinstance(e, Delta)) == third.text


def test_it_routes(composer: Composer) -> None:
    with SyncComposer(composer) as sync:
        assert sync.route("who?").ranking == ("ann",)


def test_a_stream_may_be_left_half_way(composer: Composer) -> None:
    with SyncComposer(composer) as sync:
        events = sync.stream("one")
        assert isinstance(next(events), Delta)
        assert isinstance(events, Generator)
        events.close()
        assert sync.ask("two").text == "ann heard two"


def test_errors_come_through(composer: Composer) -> None:
    with SyncComposer(composer) as sync:
        with pytest.raises(AggregationError, match="no expert answered: ann: as its script says"):
            sync.ask("nonsense")
        with pytest.raises(ConfigError, match="panel"):
            sync.ask("one", composition="panel")
        assert sync.ask("two").text == "ann heard two"


async def test_it_refuses_to_run_inside_an_event_loop(composer: Composer) -> None:
    with pytest.raises(ConfigError, match=r"`await composer\.ask\(\.\.\.\)` instead"):
        SyncComposer(composer)


def test_a_file_that_is_missing_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"experts\.yaml"):
        SyncComposer.from_yaml(tmp_path / "experts.yaml", cache=tmp_path)
