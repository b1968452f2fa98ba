"""Routes, composes and schedules local expert LLMs behind one name.

Each public name is imported when it is first read, so `import composer` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from composer.errors import (
        AggregationError,
        ComposerError,
        ConfigError,
        ExpertError,
        ExpertTimeout,
        ExpertUnavailable,
        RoutingError,
    )
    from composer.experts import Registry, load_experts
    from composer.orchestrator import Composer
    from composer.outcomes import OutcomeTable, read_table
    from composer.pool.pool import Pool
    from composer.sync import SyncComposer
    from composer.types import (
        Answer,
        Choice,
        Completion,
        Delta,
        Failure,
        Message,
        Query,
        Restart,
        Sampling,
        Selection,
    )

    __version__: str

__all__ = [
    "AggregationError",
    "Answer",
    "Choice",
    "Completion",
    "Composer",
    "ComposerError",
    "ConfigError",
    "Delta",
    "ExpertError",
    "ExpertTimeout",
    "ExpertUnavailable",
    "Failure",
    "Message",
    "OutcomeTable",
    "Pool",
    "Query",
    "Registry",
    "Restart",
    "RoutingError",
    "Sampling",
    "Selection",
    "SyncComposer",
    "load_experts",
    "read_table",
]

_HOMES = {
    "AggregationError": "composer.errors",
    "Answer": "composer.types",
    "Choice": "composer.types",
    "Completion": "composer.types",
    "Composer": "composer.orchestrator",
    "ComposerError": "composer.errors",
    "ConfigError": "composer.errors",
    "Delta": "composer.types",
    "ExpertError": "composer.errors",
    "ExpertTimeout": "composer.errors",
    "ExpertUnavailable": "composer.errors",
    "Failure": "composer.types",
    "Message": "composer.types",
    "OutcomeTable": "composer.outcomes.table",
    "Pool": "composer.pool.pool",
    "Query": "composer.types",
    "Registry": "composer.experts",
    "Restart": "composer.types",
    "RoutingError": "composer.errors",
    "Sampling": "composer.types",
    "Selection": "composer.types",
    "SyncComposer": "composer.sync",
    "load_experts": "composer.experts",
    "read_table": "composer.outcomes.store",
}
"""Public name -> the module that defines it."""

# Hidden from type checkers, which would take every misspelt attribute for one of these.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import a public name from its home, once (PEP 562)."""
        if name == "__version__":
            value = _version()
        elif name in _HOMES:
            value = getattr(importlib.import_module(_HOMES[name]), name)
        else:
            raise AttributeError(f"module 'composer' has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        """What is there, imported or not."""
        return sorted({*globals(), *__all__, "__version__"})


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("multi-llm-composer")
    except metadata.PackageNotFoundError:
        raise AttributeError("no '__version__': composer is a checkout; pip install it") from None
