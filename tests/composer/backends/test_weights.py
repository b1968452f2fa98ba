import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]

from composer.backends.weights import check_adapter, model_bytes
from composer.errors import ConfigError

LAYER = "model.layers.0.mlp.up_proj"


def test_weights_are_counted_from_the_headers_of_all_shards(tmp_path: Path):
    save_file({"a": np.zeros((3, 4), np.float32)}, tmp_path / "one.safetensors")
    save_file({"b": np.zeros(5, np.float16)}, tmp_path / "two.safetensors", metadata={"x": "y"})
    save_file({"c": np.zeros(9, np.float16)}, tmp_path / "unlisted.safetensors")
    assert model_bytes(tmp_path) == 48 + 10 + 18
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    assert model_bytes(tmp_path) == 48 + 10


def test_weights_that_are_missing_or_cut_short_are_a_config_error(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"no \*\.safetensors"):
        model_bytes(tmp_path)
    file = tmp_path / "model.safetensors"
    save_file({"a": np.zeros(8, np.float32)}, file)
    whole = file.read_bytes()
    for content in (whole[:-1], whole[:20], b"", b"\xff" * 40):
        file.write_bytes(content)
        with pytest.raises(ConfigError, match="cannot be read"):
            model_bytes(tmp_path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model with one layer that takes 4 numbers and gives 6."""
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({f"{LAYER}.weight": np.zeros((6, 4), np.float16)}, folder / "model.safetensors")
    return folder


def adapter(folder: Path, inner: int, outer: int, layer: str = LAYER) -> Path:
    folder.mkdir()
    name = f"base_model.model.{layer}"
    weights = {
        f"{name}.lora_A.weight": np.zeros((2, inner), np.float16),
        f"{name}.lora_B.weight": np.zeros((outer, 2), np.float16),
    }
    save_file(weights, folder / "adapter_model.safetensors")
    config: dict[str, Any] = {"base_model_name_or_path": "org/other", "r": 2}
    (folder / "adapter_config.json").write_text(json.dumps(config), "utf-8")
    return folder


def test_an_adapter_that_fits_the_base_is_fine(model: Path, tmp_path: Path):
    check_adapter("units", adapter(tmp_path / "units", 4, 6), model)


@pytest.mark.parametrize(("inner", "outer"), [(5, 6), (4, 7)])
def test_an_adapter_for_a_base_of_other_widths_is_refused_with_both(
    model: Path, tmp_path: Path, inner: int, outer: int
):
    other = adapter(tmp_path / "units", inner, outer)
    with pytest.raises(ConfigError) as caught:
        check_adapter("units", other, model)
    said = str(caught.value)
    assert said.startswith("expert 'units': its adapter is for another base than ")
    assert "it says 'org/other'" in said
    assert f"{LAYER} is {outer} x {inner} for it and 6 x 4 in the base" in said


def test_an_adapter_of_layers_that_the_base_lacks_is_refused(model: Path, tmp_path: Path):
    other = adapter(tmp_path / "units", 4, 6, "transformer.h.0.fc")
    (other / "adapter_config.json").write_text("{}", "utf-8")
    with pytest.raises(ConfigError, match=r"does not name: the base has none .* transformer\.h\.0"):
        check_adapter("units", other, model)


def test_an_adapter_may_change_layers_that_the_base_names_otherwise(model: Path, tmp_path: Path):
    """Models are saved under more than one name; what can be compared has to fit."""
    units = adapter(tmp_path / "units", 4, 6)
    name = "base_model.model.model.language_model.layers.0.mlp.up_proj"
    more = {
        f"{name}.lora_A.weight": np.zeros((2, 9), np.float16),
        f"{name}.lora_B.weight": np.zeros((9, 2), np.float16),
    }
    save_file(more, units / "more.safetensors")
    check_adapter("units", units, model)


def test_an_adapter_without_matrices_is_refused(model: Path, tmp_path: Path):
    units = tmp_path / "units"
    units.mkdir()
    save_file({"other": np.zeros(3, np.float16)}, units / "adapter_model.safetensors")
    with pytest.raises(ConfigError, match="none of its layers"):
        check_adapter("units", units, model)


def test_nothing_is_said_of_adapters_of_a_quantised_model(model: Path, tmp_path: Path):
    (model / "config.json").write_text('{"quantization_config": {"bits": 4}}', "utf-8")
    check_adapter("units", adapter(tmp_path / "units", 5, 6), model)
