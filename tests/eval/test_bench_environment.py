import site
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from eval.bench.environment import environment_python, run_step


class Steps:
    """Makes no environment, only the folder that there would be; refuses to install if told."""

    def __init__(self, folder: Path, refusal: str | None = None) -> None:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        self.packages = folder / "lib" / version / "site-packages"
        self.refusal = refusal
        self.commands: list[Sequence[str]] = []

    def __call__(self, command: Sequence[str]) -> str | None:
        self.commands.append(command)
        if "venv" in command:
            self.packages.mkdir(parents=True, exist_ok=True)
            return None
        return self.refusal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "peers" / "thing==1"


def test_an_environment_is_made_once(tmp_path: Path, folder: Path) -> None:
    steps = Steps(folder)

    first = environment_python(tmp_path, "thing==1", run=steps)
    again = environment_python(tmp_path, "thing==1", run=steps)

    assert first == again == str(folder / "bin" / "python")
    assert [command[-1] for command in steps.commands] == [str(folder), "thing==1"]


def test_what_is_refused_is_noted_and_tried_again_the_next_time(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = environment_python(tmp_path, "thing==1", run=Steps(folder, "no registry"))

    assert refused is None
    assert "thing==1 is not measured: no registry\n" in capsys.readouterr().err
    assert environment_python(tmp_path, "thing==1", run=Steps(folder)) is not None


def test_an_environment_that_cannot_be_made_is_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "peers").write_text("a file", "utf-8")

    assert environment_python(tmp_path, "thing==1") is None
    assert "thing==1 is not measured: " in capsys.readouterr().err


def test_an_environment_sees_our_packages_only_where_it_should(
    tmp_path: Path, folder: Path
) -> None:
    seen = folder.with_name("thing==2")
    alone, sharing = Steps(folder), Steps(seen)

    environment_python(tmp_path, "thing==1", run=alone)
    environment_python(tmp_path, "thing==2", sees_ours=True, run=sharing)

    assert (alone.packages / "seen.pth").read_text("utf-8") == ""
    assert (sharing.packages / "seen.pth").read_text("utf-8").split("\n") == site.getsitepackages()


def test_an_environment_that_sees_what_is_elsewhere_now_is_made_again(
    tmp_path: Path, folder: Path
) -> None:
    steps = Steps(folder)
    environment_python(tmp_path, "thing==1", sees_ours=True, run=steps)
    (folder / "installed").write_text("/gone/site-packages", "utf-8")

    environment_python(tmp_path, "thing==1", sees_ours=True, run=steps)

    assert len(steps.commands) == 4


def test_a_step_that_fails_gives_the_last_thing_it_said() -> None:
    said = "import sys; sys.stderr.write('one\\ntwo\\n'); sys.exit(3)"

    assert run_step([sys.executable, "-c", said]) == "two"
    assert run_step([sys.executable, "-c", "import sys; sys.exit(3)"]) == "no reason given"
    assert run_step([sys.executable, "-c", "pass"]) is None
