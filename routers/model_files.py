"""An encoder's model on disk: where its folder is, and the hash that says which model it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path

from composer.errors import ConfigError

_PACKAGE = "package:"
_HASH_BYTES = 16
_SETTLED_S = 2.0  # No file system stamps changes more coarsely (FAT does so in steps of 2 s).


def find_model(source: str) -> Path | None:
    """The folder of an encoder's source; None: it is a hub id.

    Raises:
        ConfigError: The package is not installed, or the folder does not exist.
    """
    if source.startswith(_PACKAGE):
        package, _, inside = source.removeprefix(_PACKAGE).partition("/")
        spec = find_spec(package) if package.isidentifier() else None
        if spec is None or not spec.submodule_search_locations:
            raise ConfigError(
                f"encoder {source!r}: package {package!r} is not installed; "
                f"pip install {package.replace('_', '-')}"
            )
        folder = Path(spec.submodule_search_locations[0]) / inside
    else:
        folder = Path(source).expanduser()
        if not folder.is_dir() and not source.startswith(("/", ".", "~")):
            return None
    if not folder.is_dir():
        raise ConfigError(f"encoder {source!r}: there is no folder {str(folder)!r}; mend the path")
    return folder


def hash_model(
    folder: Path, known: Path | None = None, *, now: Callable[[], float] = time.time
) -> str:
    """The hash of the names and contents of all files of a model, 32 hexadecimal digits.

    Reading a model takes a third of a second for each 100 MB, so the hash is remembered: under
    what the system says of every file without reading it (path, size, inode, and when it was
    modified and last changed in any way, which no program can set back).

    Args:
        folder: Of the model.
        known: Where hashes are remembered; made when needed. None: nowhere.
        now: Seconds since the epoch. A model that changed in the last 2 s is hashed and not
            remembered: another change could bear the same time.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if known is None:
        return _hash_contents(folder, files)
    stats = [path.stat() for path in files]
    listing = [
        (str(path.absolute()), s.st_size, s.st_ino, s.st_mtime_ns, s.st_ctime_ns)
        for path, s in zip(files, stats, strict=True)
    ]
    note = known / f"{blake2b(repr(listing).encode(), digest_size=_HASH_BYTES).hexdigest()}.hash"
    if note.exists() and len(remembered := note.read_text("ascii", "replace")) == 2 * _HASH_BYTES:
        return remembered
    changed = max((max(s.st_mtime, s.st_ctime) for s in stats), default=0.0)
    is_settled = changed + _SETTLED_S < now()
    contents = _hash_contents(folder, files)
    if is_settled:
        known.mkdir(parents=True, exist_ok=True)
        note.write_text(contents, "ascii")
    return contents


def _hash_contents(folder: Path, files: list[Path]) -> str:
    digest = blake2b(digest_size=_HASH_BYTES)
    for path in files:
        data = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{len(data)}\0".encode())
        digest.update(data)
    return digest.hexdigest()
