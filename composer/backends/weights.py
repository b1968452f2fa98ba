"""What safetensors files say of weights before any is read: bytes, shapes, and whose they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from composer.errors import ConfigError

MAX_HEADER_BYTES = 100_000_000
"""Longest safetensors header that the format allows."""
ADAPTER_PREFIX = "base_model.model."
"""Of the names that peft gives to an adapter's weights."""


def model_bytes(folder: Path) -> int:
    """Bytes of the weights in a model's or adapter's folder, from the safetensors headers.

    Raises:
        ConfigError: There are none, or a file is missing or cut short.
    """
    offsets = [entry["data_offsets"] for entry in _entries(folder).values()]
    return sum(end - start for start, end in offsets)


def check_adapter(expert: str, adapter: Path, model: Path) -> None:
    """Refuse a LoRA adapter whose matrices do not fit the model's.

    Of a model that is quantised nothing is said: its weights are packed, in other shapes.

    Args:
        expert: Whose it is.
        adapter: Its folder.
        model: The base model's folder.

    Raises:
        ConfigError: It is for another base, or its weights cannot be read.
    """
    config = model / "config.json"
    if config.is_file() and "quantization_config" in json.loads(config.read_bytes()):
        return
    weights = _entries(model)
    inner, outer = (_sides(_entries(adapter), *side) for side in (("lora_A", 1), ("lora_B", 0)))
    shapes = {name: (outer[name], inner[name]) for name in inner.keys() & outer.keys()}
    known = {name: shape for name in shapes if (shape := _shape(weights, name)) is not None}
    differing = sorted(name for name, shape in known.items() if shape != shapes[name])
    if known and not differing:
        return
    if differing:
        name = differing[0]
        why = f"{name} is {_times(shapes[name])} for it and {_times(known[name])} in the base"
    else:
        why = f"the base has none of its layers, such as {min(shapes, default='any')}"
    raise ConfigError(
        f"expert {expert!r}: its adapter is for another base than {str(model)!r}, "
        f"{_declared(adapter)}: {why}; name that base, or train the adapter on this one"
    )


def _sides(entries: dict[str, Any], matrix: str, axis: int) -> dict[str, int]:
    """The model's side of one of the two matrices of each layer that an adapter changes."""
    ending = f".{matrix}.weight"
    return {
        name.removeprefix(ADAPTER_PREFIX).removesuffix(ending): int(entry["shape"][axis])
        for name, entry in entries.items()
        if name.endswith(ending)
    }


def _shape(weights: dict[str, Any], name: str) -> tuple[int, ...] | None:
    entry = weights.get(f"{name}.weight")
    return None if entry is None else tuple(entry["shape"])


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _declared(adapter: Path) -> str:
    try:
        base = json.loads((adapter / "adapter_config.json").read_bytes())
        return f"it says {base['base_model_name_or_path']!r}"
    except (OSError, ValueError, LookupError, TypeError):
        return "which it does not name"


def _entries(folder: Path) -> dict[str, Any]:
    """What the headers in a folder say of each tensor.

    Raises:
        ConfigError: There is no file, or one is missing or cut short.
    """
    index = folder / "model.safetensors.index.json"
    entries: dict[str, Any] = {}
    try:
        if index.is_file():
            names: set[str] = set(json.loads(index.read_bytes())["weight_map"].values())
            files = [folder / name for name in sorted(names)]
        else:
            files = sorted(folder.glob("*.safetensors"))
        for file in files:
            entries |= _header(file)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as exc:
        raise ConfigError(
            f"the weights in {str(folder)!r} cannot be read: {exc}; get the model anew"
        ) from exc
    if not files:
        raise ConfigError(f"no *.safetensors in {str(folder)!r}; other weights are not loaded")
    return entries


def _header(file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > MAX_HEADER_BYTES:
            raise ValueError(f"{file.name} is no safetensors file")
        header: dict[str, Any] = json.loads(stream.read(length))
    header.pop("__metadata__", None)
    ends = [entry["data_offsets"][1] for entry in header.values()]
    if 8 + length + max(ends, default=0) > file.stat().st_size:
        raise ValueError(f"{file.name} is cut short")
    return header
