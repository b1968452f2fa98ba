"""What tests of all packages share, and the real engines, which are started once."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from hypothesis import settings

if TYPE_CHECKING:
    from composer.experts import Registry
    from composer.orchestrator import Composer
    from composer.pool.pool import Pool

MakeComposer = Callable[[Collection[str], Mapping[str, Any]], "Composer"]

ROOT = Path(__file__).parent.parent
STARTER = ROOT / "experts.yaml"
EXACT = {"max_model_len": 512, "dtype": "float32", "kv_cache_memory_bytes": 1 << 27}
BRIEF_TOKENS = 32
PATIENCE_S = 900.0
"""For a request that an engine is loaded for, on a machine that others keep busy."""

# On a busy machine an example takes as long as it takes. Where CI is set, hypothesis draws the same
# examples each time, which this leaves as it is.
settings.register_profile("patient", settings.default, deadline=None)
settings.load_profile("patient")


@cache
def starts_ray(file: str) -> bool:
    """Whether a file has tests that are marked so."""
    return "pytest.mark.ray" in (ROOT / file).read_text("utf-8")


def file_of(node_id: str) -> str:
    return node_id.partition("::")[0]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Among several workers, begin with what starts Ray: it takes longest."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: not starts_ray(file_of(item.nodeid)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each worker whole files, and all that start Ray to one: they share engines and cores."""
    from xdist.scheduler import LoadScopeScheduling  # pyright: ignore[reportMissingTypeStubs]

    class WholeFiles(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = file_of(nodeid)
            return "ray" if starts_ray(file) else file

    config.option.loadscopereorder = False
    return WholeFiles(config, log)


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """One Ray for all tests that need it; a pool joins it instead of starting its own."""
    from composer.pool.ray_runner import start_ray, stop_ray

    start_ray()
    yield
    stop_ray()


@pytest.fixture(scope="session")
def starter() -> Registry:
    """The experts.yaml that is shipped."""
    from composer.experts import load_experts

    return load_experts(STARTER)


@pytest.fixture(scope="session")
def smol(starter: Registry) -> Path:
    """The folder of the shipped chat model."""
    from composer.backends.sources import resolve_model

    source = starter.experts["smol"].source
    assert source is not None
    return resolve_model(source, download=False)


@pytest.fixture(scope="session")
def adapters(smol: Path) -> dict[str, dict[str, Any]]:
    """The weights of two LoRA adapters of `smol`."""
    from tests.lora import adapter_weights

    return {"one": adapter_weights(smol, 1), "two": adapter_weights(smol, 2)}


@pytest.fixture(scope="session")
def adapter_folders(
    adapters: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Where they are saved."""
    from tests.lora import save_adapter

    folder = tmp_path_factory.mktemp("adapters")
    for name, weights in adapters.items():
        save_adapter(folder / name, weights)
    return {name: str(folder / name) for name in adapters}


@pytest.fixture(scope="session")
def live_registry(starter: Registry, adapter_folders: dict[str, str]) -> Registry:
    """The shipped experts, put briefly; and `exact`, which is `smol` in float32, with adapters.

    Engines have one thread each, because OpenMP's threads wait by spinning and other tests run
    beside them; nor does a spare import vLLM between one test and the next.
    """
    from composer.experts import Expert, Registry, SamplingDefaults

    experts = {
        name: expert.model_copy(
            update={"sampling": expert.sampling.model_copy(update={"max_tokens": BRIEF_TOKENS})}
        )
        for name, expert in starter.experts.items()
    }
    greedy = SamplingDefaults(temperature=0.0, max_tokens=10)
    update = {"name": "exact", "engine_args": EXACT, "sampling": greedy}
    experts["exact"] = starter.experts["smol"].model_copy(update=update)
    for name, folder in adapter_folders.items():
        experts[name] = Expert(name=name, base="exact", adapter=folder, sampling=greedy)
    limits = starter.pool.model_copy(
        update={"cores": 1, "warm_spares": 0, "deadline_s": PATIENCE_S}
    )
    return Registry(experts, {}, limits, STARTER)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def live_pool(local_ray: None, live_registry: Registry) -> AsyncIterator[Pool]:
    """Their engines, each loaded when it is first asked."""
    from composer.pool.pool import Pool

    async with Pool(live_registry) as pool:
        yield pool


@pytest.fixture(scope="session")
def compose_live(live_registry: Registry, live_pool: Pool) -> MakeComposer:
    """Makes composers of some of these experts, all on the same engines."""
    from composer.assembly import compose
    from composer.experts import Composition
    from composer.orchestrator import Composer

    def make(experts: Collection[str], compositions: Mapping[str, Any]) -> Composer:
        registry = replace(
            live_registry,
            experts={name: live_registry.experts[name] for name in experts},
            compositions={n: Composition.model_validate(c) for n, c in compositions.items()},
        )
        return Composer(registry, compose(registry).compositions, pool=live_pool)

    return make
