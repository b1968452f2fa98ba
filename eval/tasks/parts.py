"""The files of a benchmark, on this machine or on the hub, each with the part that it holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub

from composer.errors import ConfigError

SPLITS: Mapping[str, str] = {
    "train": "train",
    "dev": "train",
    "val": "train",
    "validation": "train",
    "test": "test",
}
"""The split of each part that benchmarks have: what is not judged may be learned from."""
PATTERNS = ("{part}.jsonl", "{part}.jsonl.gz", "{part}-*.parquet", "{part}.parquet")
"""What the files of a folder are called: the first of these that any file has."""

Download = Callable[[str, str], Path]
"""A repository of data sets and a file in it -> where the file is on this machine."""


@dataclass(frozen=True, slots=True)
class Part:
    """One file."""

    file: Path
    name: str
    """One of `SPLITS`."""

    @property
    def split(self) -> str:
        """Where its cases go."""
        return SPLITS[self.name]


@dataclass(frozen=True, slots=True)
class Hub:
    """Where the hub has a benchmark."""

    repo: str
    files: Mapping[str, str]
    """Part -> file."""


def find_parts(path: Path, patterns: Sequence[str] = PATTERNS) -> tuple[Part, ...]:
    """The parts in a folder; or a file, whose name says which part it is, else it is `test`.

    Raises:
        ConfigError: There is no such file or folder, or nothing in it has the names.
    """
    if path.is_file():
        words = re.findall("[a-z]+", path.name.lower())
        return (Part(path, next((word for word in words if word in SPLITS), "test")),)
    if not path.is_dir():
        raise ConfigError(f"no file or folder {str(path)!r}; name where the benchmark's files are")
    for pattern in patterns:
        found = [
            Part(file, part)
            for part in SPLITS
            for file in sorted(path.glob(pattern.format(part=part, Part=part.capitalize())))
        ]
        if found:
            return tuple(found)
    named = [pattern.format(part="test", Part="Test") for pattern in patterns]
    raise ConfigError(f"{path}: no file {' or '.join(named)}; name their folder, or one file")


def fetch_parts(hub: Hub, download: Download) -> tuple[Part, ...]:
    """The parts that the hub has, brought to this machine.

    Raises:
        ConfigError: See `hub_file`.
    """
    return tuple(Part(download(hub.repo, file), part) for part, file in hub.files.items())


def hub_file(repo: str, file: str) -> Path:
    """A data set's file in the hub's cache; it is downloaded if it is not there. No code is run.

    Raises:
        ConfigError: It is not there, and the hub cannot be reached or does not have it.
    """
    reason = ""
    for local_only in (True, False):
        try:
            return Path(
                huggingface_hub.hf_hub_download(  # pyright: ignore[reportUnknownMemberType]
                    repo, file, repo_type="dataset", local_files_only=local_only
                )
            )
        except (OSError, ValueError, huggingface_hub.errors.HTTPError) as exc:
            reason = str(exc).splitlines()[0]
    raise ConfigError(
        f"{file!r} of {repo!r} is not on this machine and cannot be fetched from the hub "
        f"({reason}); fetch it elsewhere, and name its path behind the task, as in gsm8k:PATH"
    )
