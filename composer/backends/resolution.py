"""An engine's spec with folders on this disk in place of sources."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from composer.backends.conversion_cache import Convert, convert_in_subprocess
from composer.backends.sources import resolve_adapter, resolve_group, resolve_model
from composer.backends.weights import check_adapter
from composer.types import EngineSpec, Member


def resolve_spec(
    spec: EngineSpec,
    *,
    models: Path,
    download: bool = True,
    convert: Convert = convert_in_subprocess,
) -> EngineSpec:
    """The spec with `model_path` and `adapters` as folders; one that has no source as it is.

    Args:
        spec: An engine as experts.yaml names it.
        models: The folder that converted models are kept in.
        download: Whether what is on a hub only is fetched.
        convert: Makes a folder of a GGUF file.

    Raises:
        ConfigError: The model or an adapter is not there, or damaged, or an adapter is for another
            model; says what to do.
    """
    if spec.source is None:
        return spec

    def found(member: Member) -> Member:
        model = resolve_model(member.source, cache=models, download=download, convert=convert)
        if member.adapter is None:
            return replace(member, model_path=str(model))
        adapter = resolve_adapter(member.adapter, download=download)
        check_adapter(member.expert, adapter, model)
        return replace(member, model_path=str(model), adapter=str(adapter))

    if spec.members:
        folder = resolve_group(spec.source)
        members = tuple(found(member) for member in spec.members)
        return replace(spec, source=str(folder), members=members, model_path=members[0].model_path)
    model = resolve_model(spec.source, cache=models, download=download, convert=convert)
    adapters = {
        expert: str(resolve_adapter(source, download=download))
        for expert, source in spec.adapters.items()
    }
    for expert, folder in adapters.items():
        check_adapter(expert, Path(folder), model)
    return replace(spec, model_path=str(model), adapters=adapters)
