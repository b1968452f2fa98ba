"""The whole of experts.yaml, and the JSON Schema that editors check it by."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from composer.entries import NAME, Composition, Entry, Expert
from composer.pool_settings import PoolSettings


class ExpertsFile(Entry):
    """The experts, the names under which they are composed, and the machine's budget."""

    experts: dict[str, Expert] = Field(
        min_length=1, json_schema_extra={"propertyNames": {"pattern": f"^{NAME}$"}}
    )
    """The models that can be asked, by name."""
    compositions: dict[str, Composition] | None = Field(
        default=None, json_schema_extra={"propertyNames": {"pattern": f"^{NAME}$"}}
    )
    """What callers ask, by name."""
    pool: PoolSettings | None = None
    """What experts may take of this machine."""


def experts_schema() -> dict[str, Any]:
    """The JSON Schema of experts.yaml, as published in docs/experts.schema.json."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **ExpertsFile.model_json_schema(),
        "title": "experts.yaml",
    }
