"""A digest by which an artefact knows the weights that it was trained beside."""

from __future__ import annotations

import hashlib
from pathlib import Path

from composer.errors import ConfigError

SAMPLES, SAMPLE_BYTES = 64, 1 << 16
"""Of each file so many pieces are read, spread evenly: other weights differ everywhere."""


def weights_identity(model: Path, adapter: Path | None = None) -> str:
    """Digest of a model's weights and of the adapter on them, whatever their folders are called.

    Files of up to 4 MiB are read whole; of larger ones 64 pieces of 64 KiB, and their size.

    Raises:
        ConfigError: There are no weights in a folder.
    """
    digest = hashlib.sha256()
    for folder in [model] if adapter is None else [model, adapter]:
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise ConfigError(f"no *.safetensors in {str(folder)!r}; get the model anew")
        for file in files:
            size = file.stat().st_size
            digest.update(str(size).encode())
            with file.open("rb") as stream:
                for begin in _begins(size):
                    stream.seek(begin)
                    digest.update(stream.read(SAMPLE_BYTES))
    return digest.hexdigest()[:32]


def _begins(size: int) -> list[int]:
    if size <= SAMPLES * SAMPLE_BYTES:
        return list(range(0, size, SAMPLE_BYTES))
    return [i * (size - SAMPLE_BYTES) // (SAMPLES - 1) for i in range(SAMPLES)]
