"""What experts.yaml says of the pool."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from composer.entries import Amount, Count, Entry


class PoolSettings(Entry):
    """What experts may take of this machine, and how long things may last."""

    memory_gib: Annotated[float, Field(gt=0)] | None = None
    """Memory for all experts on this machine. Left out: three quarters of what it has."""
    cores: Count | None = None
    """Processor cores for all experts. Left out: all of them."""
    busy_engines: Count = 1
    """Engines that generate at one time; the cores are shared out among them."""
    node_resource: Annotated[str, Field(min_length=1)] | None = None
    """Experts run on the nodes of the Ray cluster that have this custom resource, and as many
    engines generate on a node at one time as it has of it; memory_gib and cores then are of each
    node. Left out: experts run on this machine."""
    gpu_memory_gib: Annotated[float, Field(gt=0)] | None = None
    """Memory for all experts on the GPU of a machine; memory_gib then is what their processes, and
    experts that sleep, may take of its own memory. Left out: experts compute on the processor."""
    load_ahead: bool = False
    """Whether the next expert may be loaded while another generates, where memory is left."""
    keep_processes: bool = True
    """Whether the process that an expert leaves is used again; else each load has a new one."""
    age_limit_s: Annotated[float, Field(gt=0)] | None = None
    """Seconds after which a request of a batch that waits comes before shorter batches."""
    warm_spares: Annotated[int, Field(strict=True, ge=0)] = 1
    """Processes kept ready for the next expert to load into."""
    max_attempts: Count = 2
    """Times that a request is tried before it counts as failed."""
    deadline_s: Annotated[float, Field(gt=0)] = 300.0
    """Seconds for a request, waiting and loading included."""
    load_deadline_s: Annotated[float, Field(gt=0)] = 600.0
    """Seconds for loading an expert."""
    grace_s: Amount = 5.0
    """Seconds that an aborted request may take to end before its process counts as hung."""
    eviction: Literal["lru", "lfu", "greedy-dual"] = "lru"
    """Which expert makes room for another: the one used least recently (lru), the one used least
    often (lfu), or the one whose load costs the fewest seconds for its memory (greedy-dual)."""
    min_loaded_s: Amount = 0.0
    """Seconds that an expert stays loaded at least, whoever else waits."""
    ray: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Ray's options for every expert's process, such as num_gpus or resources."""
