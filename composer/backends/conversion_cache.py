"""Models converted from GGUF, each once: a folder a model, made beside and renamed into place.

A folder is named after the sha256 of the GGUF's content and lists its own files with their sizes
and digests, so one that was damaged is noticed, and one that was never finished does not exist.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import platformdirs

import composer
from composer.errors import ConfigError

logger = logging.getLogger(__name__)

Convert = Callable[[Path, Path], None]
"""Makes of a GGUF file (first) a Hugging Face folder (second), which does not exist yet."""

CONVERSION = 1
"""Part of a folder's name: raised when `gguf_conversion` comes to write something else."""

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Gguf:
    """A GGUF file, whole or in pieces to be joined in their order."""

    name: str
    pieces: tuple[Path, ...]
    sums: Path | None = None
    """SHA256SUMS that lists it; None: nobody shipped one."""

    def digest(self) -> str:
        """The content's sha256 in hex.

        Raises:
            ConfigError: It is not the one that SHA256SUMS gives.
        """
        digest = sha256(*self.pieces)
        expected = sha256_sums(self.sums).get(self.name) if self.sums is not None else None
        if expected is not None and digest != expected:
            raise ConfigError(
                f"{self.name!r} is damaged: its sha256 is {digest}, not {expected} as in "
                f"{str(self.sums)!r}; reinstall the package it comes from"
            )
        return digest


def cache_dir() -> Path:
    """Where models (in `models`) and measurements are kept unless the caller says otherwise."""
    return Path(platformdirs.user_cache_dir("multi-llm-composer"))


def converted(gguf: Gguf, cache: Path, convert: Convert) -> Path:
    """The folder of the converted GGUF, which is made if it is not there or is damaged.

    Several processes may ask at once: one converts, the others wait for it.

    Raises:
        ConfigError: The GGUF is damaged, or cannot be converted or written.
    """
    digest = gguf.digest()
    folder = cache / f"{Path(gguf.name).stem}-{digest[:16]}-v{CONVERSION}"
    if _damage(folder) is None:
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(cache / f".{folder.name}.lock"):
            damage = _damage(folder)
            if damage is not None:
                if folder.exists():
                    logger.warning("%s is damaged (%s) and is converted anew", folder, damage)
                    shutil.rmtree(folder)
                _make(gguf, folder, convert)
    except OSError as exc:
        raise ConfigError(
            f"cannot keep the converted {gguf.name!r} in {str(cache)!r}: {exc}; "
            "name a cache folder that can be written"
        ) from exc
    return folder


def convert_in_subprocess(gguf: Path, destination: Path) -> None:
    """Convert in a process of its own, so that its gigabytes go with it.

    Raises:
        ConfigError: A package is missing, or the GGUF cannot be converted.
    """
    needed = ("accelerate", "gguf", "safetensors", "torch", "transformers")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"converting {gguf.name!r} needs {missing}; pip install {' '.join(missing)}"
        )
    logger.info("converting %s; this is done once and takes a minute or more", gguf.name)
    arguments = [str(gguf.resolve()), str(destination.resolve()), str(os.getpid())]
    run = subprocess.run(
        [sys.executable, "-m", "composer.backends.gguf_conversion", *arguments],
        cwd=Path(composer.__path__[0]).parent,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    if run.returncode:
        said = (run.stderr.strip().splitlines() or ["it said nothing"])[-1].strip()
        raise ConfigError(
            f"{gguf.name!r} cannot be converted (exit status {run.returncode}): {said}; "
            "check that transformers knows its architecture and that memory suffices"
        )


def sha256(*pieces: Path) -> str:
    """The sha256 in hex of the files' joined content; an unchanged file is read once a process."""
    stats = [(piece, piece.stat()) for piece in pieces]
    return _sha256(tuple((piece, s.st_size, s.st_mtime_ns) for piece, s in stats))


def sha256_sums(path: Path) -> dict[str, str]:
    """File name -> sha256 in hex, as `sha256sum` writes them."""
    lines = (line.split(maxsplit=1) for line in path.read_text("utf-8").splitlines())
    return {line[1].lstrip("*"): line[0].lower() for line in lines if len(line) == 2}


@functools.lru_cache(maxsize=1024)
def _sha256(stamped: tuple[tuple[Path, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for path, _, _ in stamped:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _make(gguf: Gguf, folder: Path, convert: Convert) -> None:
    # Whoever holds the lock knows that what a killed conversion left is nobody's.
    for stale in folder.parent.glob(f".{folder.name}-*"):
        shutil.rmtree(stale)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as staging:
        made = Path(staging) / "made"
        convert(_whole(gguf, Path(staging)), made)
        _seal(made)
        made.rename(folder)
    _sync(folder.parent)


def _whole(gguf: Gguf, staging: Path) -> Path:
    if len(gguf.pieces) == 1:
        return gguf.pieces[0]
    whole = staging / gguf.name
    with whole.open("wb") as joined:
        for piece in gguf.pieces:
            with piece.open("rb") as file:
                shutil.copyfileobj(file, joined)
    return whole


def _seal(folder: Path) -> None:
    """Write the manifest, and have all of the folder on disk before it gets its name."""
    files = {
        path.name: {"size": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(folder.iterdir())
    }
    (folder / MANIFEST).write_text(json.dumps({"files": files}, indent=2) + "\n", "utf-8")
    for path in (*folder.iterdir(), folder):
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _damage(folder: Path) -> str | None:
    """What is wrong with a converted model; None: nothing."""
    try:
        files: dict[str, Any] = json.loads((folder / MANIFEST).read_text("utf-8"))["files"]
        for name, entry in files.items():
            path = folder / name
            if path.stat().st_size != entry["size"]:
                return f"{name} has {path.stat().st_size} bytes, not {entry['size']}"
            if sha256(path) != entry["sha256"]:
                return f"{name} has another sha256"
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as exc:
        return f"{type(exc).__name__}: {exc}"
    return None
