from pathlib import Path

import pytest
from typer.testing import CliRunner

from composer.cli import app
from composer.cli.init import packaged_experts, write_new
from composer.errors import ConfigError
from composer.experts import load_experts


def test_init_writes_a_file_that_reads(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"

    result = CliRunner().invoke(app, ["init", str(path)])

    assert result.exit_code == 0
    assert str(path) in result.stdout
    assert load_experts(path).experts


def test_a_folder_gets_an_experts_yaml(tmp_path: Path) -> None:
    CliRunner().invoke(app, ["init", str(tmp_path)])

    assert (tmp_path / "experts.yaml").read_bytes() == packaged_experts()


def test_a_file_that_exists_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "experts.yaml"
    path.write_text("mine", encoding="utf-8")

    result = CliRunner().invoke(app, ["init", str(path)])

    assert result.exit_code == 1
    assert result.stderr == f"error: {path} exists; name another file, or --force replaces it\n"
    assert path.read_text(encoding="utf-8") == "mine"


def test_force_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "experts.yaml"
    path.write_text("mine", encoding="utf-8")

    CliRunner().invoke(app, ["init", str(path), "--force"])

    assert path.read_bytes() == packaged_experts()


def test_nothing_else_is_left_in_the_folder(tmp_path: Path) -> None:
    path = tmp_path / "experts.yaml"
    write_new(path, b"one", force=False)
    with pytest.raises(ConfigError, match="exists"):
        write_new(path, b"two", force=False)

    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_does_not_exist_is_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["init", str(tmp_path / "gone" / "experts.yaml")])

    assert result.exit_code == 1
    assert "cannot be written" in result.stderr
    assert len(result.stderr.splitlines()) == 1
