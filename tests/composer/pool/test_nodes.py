from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import psutil
import pytest

from composer.experts import PoolSettings
from composer.pool.nodes import HERE, ClusterNode, Nodes, PoolNode, pool_nodes, reachable
from composer.pool.nodes import this_machine as this_machine_of

GIB = 1 << 30
MACHINE = ClusterNode("id", "127.0.0.1", 1, amount=2.0, cores=9.0, memory_bytes=5 * GIB)


def settings(**fields: object) -> PoolSettings:
    return PoolSettings.model_validate(fields)


@pytest.fixture
async def open_port() -> AsyncIterator[int]:
    """A port of this machine that connections are accepted on."""

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    """A port of this machine that nobody listens on any more."""
    with socket.socket() as gone:
        gone.bind(("127.0.0.1", 0))
        return int(gone.getsockname()[1])


def at(name: str, port: int) -> ClusterNode:
    return ClusterNode(name, "127.0.0.1", port, amount=1.0, cores=1.0, memory_bytes=GIB)


def test_as_many_engines_generate_on_a_machine_as_it_has_of_the_resource() -> None:
    found = pool_nodes([MACHINE], settings(busy_engines=1))
    assert found == {"id": PoolNode("id", 5 * GIB, slots=2, threads=4)}


def test_a_machine_that_has_less_than_one_of_it_takes_no_expert() -> None:
    little = ClusterNode("little", "127.0.0.1", 1, amount=0.5, cores=2.0, memory_bytes=GIB)
    assert list(pool_nodes([little, MACHINE], settings())) == ["id"]


def test_memory_and_cores_that_are_set_hold_for_each_machine() -> None:
    found = pool_nodes([MACHINE], settings(memory_gib=3, cores=4, gpu_memory_gib=7))
    assert found["id"] == PoolNode("id", 3 * GIB, slots=2, threads=2, gpu_bytes=7 * GIB)


def test_each_engine_has_a_thread_where_there_are_more_of_them_than_cores() -> None:
    crowded = ClusterNode("id", "127.0.0.1", 1, amount=8.0, cores=2.0, memory_bytes=GIB)
    assert pool_nodes([crowded], settings())["id"].threads == 1


def test_this_machine_has_as_many_slots_as_engines_may_be_busy() -> None:
    here = this_machine_of(settings(busy_engines=2, cores=8, memory_gib=2))
    assert here == PoolNode(HERE, 2 * GIB, slots=2, threads=4)


def test_left_unsaid_experts_take_three_quarters_of_this_machines_memory() -> None:
    assert this_machine_of(settings()).memory_bytes == int(0.75 * psutil.virtual_memory().total)


def test_engines_compute_in_a_gpus_memory_where_there_is_one() -> None:
    assert PoolNode("a", 5, 1, 1).engine_bytes == 5
    assert PoolNode("a", 5, 1, 1, gpu_bytes=3).engine_bytes == 3


def test_without_a_resource_all_experts_run_here() -> None:
    nodes = Nodes(settings(busy_engines=2))
    assert nodes.of("ray") == nodes.of("inline") == [nodes.here]
    assert nodes.slots == {HERE: 2}
    assert nodes[HERE] is nodes.here


def test_with_a_resource_only_what_has_no_process_runs_here_until_machines_are_found() -> None:
    nodes = Nodes(settings(node_resource="expert"))
    assert nodes.of("ray") == []
    assert nodes.of("inline") == [nodes.here]
    nodes.found = pool_nodes([MACHINE], settings())
    assert nodes.of("ray") == [nodes["id"]]
    assert nodes.slots == {HERE: 1, "id": 2}


async def test_machines_that_accept_a_connection_are_there(
    open_port: int, closed_port: int
) -> None:
    found = [at("gone", closed_port), at("there", open_port), at("also there", open_port)]
    assert [node.id for node in await reachable(found)] == ["there", "also there"]
    assert await reachable([]) == []
