import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]
from typer.testing import CliRunner, Result

from composer.cli import app

EXPERTS = """
experts:
  smol: {source: "MODEL", categories: [chat, writing], price: {input_usd_per_mtok: 0.5}}
  units: {base: smol, adapter: "ADAPTER"}
  far: {engine: openai, base_url: "http://127.0.0.1:9/v1", model: gpt}
compositions:
  auto: {router: {name: fixed, expert: smol}}
"""
"""A model in a folder, a LoRA expert on it, and a remote one."""
LAYER = "model.layers.0.mlp.up_proj"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}", encoding="utf-8")
    save_file({f"{LAYER}.weight": np.zeros((6, 4), np.float16)}, folder / "model.safetensors")
    return folder


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}", encoding="utf-8")
    sides = {"A": (2, 4), "B": (6, 2)}
    weights = {
        f"base_model.model.{LAYER}.lora_{side}.weight": np.zeros(shape, np.float16)
        for side, shape in sides.items()
    }
    save_file(weights, folder / "adapter_model.safetensors")
    return folder


@pytest.fixture
def path(tmp_path: Path, model: Path, adapter: Path) -> Path:
    path = tmp_path / "experts.yaml"
    text = EXPERTS.replace("MODEL", str(model)).replace("ADAPTER", str(adapter))
    path.write_text(text, encoding="utf-8")
    return path


def experts(command: str, path: Path, *args: str) -> Result:
    env = {"XDG_CACHE_HOME": str(path.parent / "cache")}
    return CliRunner().invoke(app, ["experts", command, "--experts", str(path), *args], env=env)


def test_a_list_shows_each_expert(path: Path, model: Path) -> None:
    result = experts("list", path)

    assert result.exit_code == 0
    for text in ("smol", "units", "far", str(model)[:20], "chat, writing", "0.5 / 0"):
        assert text in result.stdout


def test_a_list_as_json_holds_the_entries(path: Path, model: Path, adapter: Path) -> None:
    smol, units, far = json.loads(experts("list", path, "--output", "json").stdout)

    assert (smol["engine"], smol["runner"], smol["source"]) == ("vllm", "ray", str(model))
    assert (units["base"], units["adapter"]) == ("smol", str(adapter))
    assert (far["engine"], far["runner"], far["model"]) == ("openai", "inline", "gpt")


def test_a_file_with_nothing_wrong_is_ok(path: Path) -> None:
    result = experts("check", path)

    assert (result.exit_code, result.stdout, result.stderr) == (0, "ok\n", "")


def test_a_check_says_everything_that_is_wrong(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("chat, writing", "chat") + "nonsense: 1\nmore: 2\n", "utf-8")

    result = experts("check", path)

    assert result.exit_code == 1
    assert [line.partition(":")[0] for line in result.stderr.splitlines()] == ["error"] * 2


def test_a_check_looks_for_models_adapters_secrets_and_settings_alike(
    path: Path, model: Path, adapter: Path
) -> None:
    (model / "config.json").unlink()
    (adapter / "adapter_config.json").unlink()
    text = path.read_text(encoding="utf-8")
    text = text.replace("model: gpt", "model: gpt, api_key: os.environ/NOBODY_SETS_THIS")
    path.write_text(text.replace("name: fixed", "name: fixd"), encoding="utf-8")

    result = experts("check", path)

    lines = result.stderr.splitlines()
    assert len(lines) == 4
    for line, part in zip(
        lines,
        ("no router 'fixd'", "NOBODY_SETS_THIS", "config.json", "missing adapter"),
        strict=True,
    ):
        assert part in line


def test_a_hub_id_passes_a_check_since_only_the_hub_knows_it(path: Path) -> None:
    text = "experts:\n  far: {source: some-org/some-model}\n"
    path.write_text(text, encoding="utf-8")

    assert experts("check", path).stdout == "ok\n"


def test_pulling_a_local_model_says_where_it_is_and_its_size(path: Path, model: Path) -> None:
    result = experts("pull", path, "smol", "far")

    assert result.exit_code == 0
    assert result.stdout == f"smol\t{model}\t0 MB\n"
    assert "far: nothing to fetch" in result.stderr


def test_pulling_a_lora_expert_says_where_its_adapter_is(path: Path, adapter: Path) -> None:
    assert experts("pull", path, "units").stdout == f"units\t{adapter}\t0 MB\n"


def test_pulling_an_unknown_expert_suggests_a_known_one(path: Path) -> None:
    result = experts("pull", path, "smoll")

    assert result.exit_code == 1
    assert "no expert 'smoll'; did you mean 'smol'?" in result.stderr
