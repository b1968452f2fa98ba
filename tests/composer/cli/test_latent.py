from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from composer.appending import AppendedFile
from composer.cli import app
from composer.latent.artefact import DTYPES
from composer.latent.fitting import fit_group
from composer.latent.loading import load_engine
from composer.latent.members import load_thinker
from composer.latent.recipe import Recipe
from composer.latent.rows import read_rows
from composer.latent.settings import LatentSettings
from composer.latent.training import Gates
from composer.types import EngineSpec
from tests.composer.latent.groups import ask, write
from tests.latent_models import save_tiny_model, tiny_member

SMALL = (
    *("--steps", "4", "--batch", "2", "--levels", "2", "--width", "16", "--heads", "2"),
    *("--set", "keep_every=2", "--set", "dtype=float32"),
)
ROWS = [
    {"prompt": "what is the capital of norway", "answer": "oslo"},
    {"prompt": "one two", "reference": "three", "id": "c-1", "category": "sums"},
    {"messages": [{"role": "user", "content": "red or green"}], "answer": "red"},
    {"prompt": "green or blue", "answer": "green", "split": "test"},
    {"prompt": "blue or red", "answer": "blue", "split": "test"},
]


class Interruption(Exception):
    """What ends a run in the middle."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama and a Gemma."""
    folder = tmp_path_factory.mktemp("models")
    save_tiny_model(folder / "ann", "llama", 1)
    save_tiny_model(folder / "bea", "gemma", 2)
    return folder


@pytest.fixture
def place(models: Path, tmp_path: Path) -> Path:
    """An experts.yaml with the two, one that is elsewhere, and one of an unknown family; rows."""
    for name in ("ann", "bea"):
        shutil.copytree(models / name, tmp_path / name)
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text('{"model_type": "mamba"}', "utf-8")
    shutil.copy(models / "ann" / "model.safetensors", tmp_path / "odd")
    experts: dict[str, Any] = {name: {"source": name} for name in ("ann", "bea", "odd")}
    experts["far"] = {"engine": "openai", "base_url": "http://127.0.0.1:1/v1", "model": "m"}
    (tmp_path / "experts.yaml").write_text(json.dumps({"experts": experts}), "utf-8")
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, ROWS)), "utf-8")
    return tmp_path


def fit(place: Path, *args: str, experts: str = "ann,bea", save: str = "both") -> Result:
    words = ["--experts", experts, "--config", str(place / "experts.yaml")]
    words += ["--data", str(place / "train.jsonl"), "--save", str(place / save), *SMALL, *args]
    env = {"XDG_CACHE_HOME": str(place / "cache")}
    return CliRunner().invoke(app, ["latent", "fit", *words], env=env)


def fitted(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def complaint(result: Result) -> str:
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_a_group_is_fitted_and_saved_with_its_losses(place: Path) -> None:
    result = fit(place, "--output", "json")

    said = fitted(result)
    assert (said["experts"], said["primaries"], said["steps"]) == (["ann", "bea"], ["ann"], 4)
    assert (said["n_rows"], said["held_out"]["n_rows"]) == (3, 2)
    assert {"alone", "together", "shuffled"} < said["held_out"].keys()
    names = {path.name for path in (place / "both").iterdir()}
    assert names == {"latent.json", "latent.safetensors", "losses.json", "losses.svg"}
    losses = json.loads((place / "both" / "losses.json").read_text("utf-8"))
    assert len(losses["loss"]) == len(losses["gates"]["ann"]) == 4
    told = json.loads((place / "both" / "latent.json").read_text("utf-8"))
    assert [(m["name"], m["source"]) for m in told["members"]] == [("ann", "ann"), ("bea", "bea")]
    assert told["settings"]["levels"] == 2
    lines = result.stderr.splitlines()
    assert [line for line in lines if "read" in line] == [
        "bea has read 2 texts",
        "bea has read 3 texts",
    ]
    assert [line.partition(":")[0] for line in lines if line.startswith("step")] == [
        "step 2 of 4",
        "step 4 of 4",
    ]


def test_a_run_that_is_done_says_so_and_is_not_done_again(place: Path) -> None:
    first = fitted(fit(place, "--output", "json"))
    before = (place / "both" / "latent.safetensors").read_bytes()

    result = fit(place, "--output", "json")

    assert "both: is fitted already" in result.stderr.replace("\n", "")
    assert fitted(result)["held_out"] == first["held_out"]
    assert (place / "both" / "latent.safetensors").read_bytes() == before


def test_a_run_that_was_ended_goes_on_with_the_same_command(place: Path) -> None:
    assert fit(place, save="whole").exit_code == 0
    members = [tiny_member(name, place / name) for name in ("ann", "bea")]

    def end(step: int, loss: float, gates: Gates) -> None:
        if step == 3:
            raise Interruption

    with pytest.raises(Interruption):
        fit_group(
            members,
            [load_thinker(member, dtype=DTYPES["float32"]) for member in members],
            read_rows(place / "train.jsonl"),
            place / "both",
            LatentSettings(levels=2, width=16, heads=2),
            Recipe(steps=4, batch=2, keep_every=2, dtype="float32"),
            on_step=end,
        )
    assert {path.name for path in (place / "both").iterdir()} == {"lock", "state", "states"}

    result = fit(place)

    assert result.exit_code == 0, result.output
    assert "step 4 of 4" in result.stderr
    assert "step 2 of 4" not in result.stderr
    whole, again = (place / name / "latent.safetensors" for name in ("whole", "both"))
    assert whole.read_bytes() == again.read_bytes()


def test_of_several_starts_one_goes_on_and_its_seed_is_told(place: Path) -> None:
    result = fit(place, "--starts", "2", "--set", "start_steps=2", "--output", "json")

    said = fitted(result)
    assert (said["steps"], said["seed"] in (0, 1)) == (4, True)
    losses = json.loads((place / "both" / "losses.json").read_text("utf-8"))
    assert len(losses["loss"]) == 4
    assert "step 6 of 6" in result.stderr
    alone = fitted(fit(place, "--seed", str(said["seed"]), "--output", "json", save="alone"))
    assert alone["held_out"] == said["held_out"]
    names = {path.name for path in (place / "both").iterdir()}
    assert names == {path.name for path in (place / "alone").iterdir()}


def test_an_engine_is_made_of_what_was_fitted(place: Path) -> None:
    assert fit(place).exit_code == 0
    members = tuple(tiny_member(name, place / name) for name in ("ann", "bea"))
    spec = EngineSpec("k", "latent", "inline", ("both",), str(place / "both"), members=members)

    ((completion,), _) = write(load_engine(spec), ask(1, "red or green", max_tokens=3))

    assert 1 <= completion.completion_tokens <= 3


def test_text_is_a_table(place: Path) -> None:
    rows = [line.split() for line in fit(place).stdout.splitlines()]

    assert ["experts", "ann,", "bea"] in rows
    assert ["steps", "4"] in rows


def test_any_of_the_experts_may_be_let_write(place: Path) -> None:
    said = fitted(fit(place, "--primary", "bea", "--primary", "ann", "--output", "json"))

    assert said["primaries"] == ["bea", "ann"]
    assert set(said["gates"]) == {"ann", "bea"}


def test_a_router_is_trained_along_and_routes_from_the_same_folder(place: Path) -> None:
    said = fitted(
        fit(place, "--primary", "ann", "--primary", "bea", "--router", "--output", "json")
    )

    assert {"entropy", "balance", "consistency", "choice", "baseline"} == said["terms"].keys()
    assert sum(said["held_out"]["chosen"].values()) == pytest.approx(1)
    names = {path.name for path in (place / "both").iterdir()}
    assert names > {"latent.json", "router.json", "arrays.npz"}
    losses = json.loads((place / "both" / "losses.json").read_text("utf-8"))
    assert len(losses["terms"]) == 4
    about = json.loads((place / "experts.yaml").read_text("utf-8"))
    about["compositions"] = {"both": {"router": {"from": "both"}, "choose": {"k": 2}}}
    (place / "experts.yaml").write_text(json.dumps(about), "utf-8")
    words = ["route", "red or green", "--experts", str(place / "experts.yaml"), "-c", "both"]
    routed = fitted(CliRunner().invoke(app, [*words, "--output", "json"]))
    assert {choice["expert"] for choice in routed["choices"]} == {"ann", "bea"}


def test_states_may_be_kept_for_runs_to_come(place: Path) -> None:
    assert fit(place, "--states", str(place / "states")).exit_code == 0
    kept = {path: path.stat().st_mtime_ns for path in (place / "states").rglob("*.safetensors")}

    assert fit(place, "--states", str(place / "states"), "--seed", "1", save="more").exit_code == 0

    assert len(kept) == 5
    found = (place / "states").rglob("*.safetensors")
    assert {path: path.stat().st_mtime_ns for path in found} == kept


def test_what_was_fitted_otherwise_is_not_written_over(place: Path) -> None:
    assert fit(place).exit_code == 0

    assert "both: holds what was fitted otherwise" in complaint(fit(place, "--seed", "7"))


def test_changed_weights_are_another_run(place: Path) -> None:
    assert fit(place).exit_code == 0
    save_tiny_model(place / "bea", "gemma", 9)

    assert "holds what was fitted otherwise" in complaint(fit(place))


def test_a_folder_of_something_else_is_not_written_to(place: Path) -> None:
    assert "ann: holds something else than a group" in complaint(fit(place, save="ann"))


@pytest.mark.parametrize(
    ("experts", "said"),
    [
        ("ann", "--experts 'ann' is no group; name two experts or more: a,b"),
        ("ann,ann", "--experts names 'ann' twice"),
        ("ann,beo", "no expert 'beo'; did you mean 'bea'?"),
        ("ann,far", "expert 'far' runs on 'openai'; only experts on 'vllm' have weights"),
        ("ann,odd", "expert 'odd': a mixture of thoughts cannot read a model of type 'mamba'"),
    ],
)
def test_experts_that_make_no_group_are_one_line(place: Path, experts: str, said: str) -> None:
    assert said in complaint(fit(place, experts=experts))
    assert not (place / "both").exists()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--primary", "cy"], "--primary: no expert 'cy'; choose from ['ann', 'bea']"),
        (["--set", "gat=1"], "no setting 'gat'; did you mean 'gate'?"),
        (["--set", "steps=5"], "'steps' is given as an option and with --set; leave one"),
        (["--set", "clip=-1"], "'clip' is -1.0; more than 0 is needed"),
        (["--set", "clip=tight"], "'clip': input should be a valid number"),
        (["--refresh", "every_n", "--think-tokens", "3"], "'think_tokens' goes with refresh"),
        (["--router"], "the router has nothing to choose: all experts take part"),
        (["--set", "entropy=0.1"], "'entropy' is of a router, and none is trained; give --router"),
        (["--router", "--set", "balance=-1"], "'balance' is -1.0; 0 or more is needed"),
        (["--starts", "2"], "'start_steps' is 100; fewer than 'steps' (4) are needed"),
        (["--set", "start_steps=2"], "'start_steps' is of several starts; give --starts as well"),
        (["--active", "3"], "'active' is 3, and the group has 2 experts"),
        (["--set", "weight_decay=0.1", "--active", "1"], "'active': input should be greater"),
    ],
)
def test_a_setting_that_cannot_be_is_one_line(place: Path, args: list[str], said: str) -> None:
    assert said in complaint(fit(place, *args))


def test_more_levels_than_layers_are_one_line(place: Path) -> None:
    text = (place / "experts.yaml").read_text("utf-8")
    save_tiny_model(place / "low", "qwen", 1, layers=1)
    (place / "experts.yaml").write_text(text.replace('"odd"', '"low"'), "utf-8")

    assert "2 levels are more than a model of 1 layers has" in complaint(
        fit(place, experts="ann,low")
    )


def test_two_runs_do_not_share_a_folder(place: Path) -> None:
    with AppendedFile(place / "both" / "lock"):
        assert "another run writes there; wait for it" in complaint(fit(place))


def test_a_row_that_is_wrong_is_one_line(place: Path) -> None:
    (place / "train.jsonl").write_text('{"prompt": "a"}', "utf-8")
    assert "train.jsonl:1: 'answer' is missing" in complaint(fit(place))

    (place / "train.jsonl").write_text("", "utf-8")
    assert "train.jsonl: no row" in complaint(fit(place))

    row = {"prompt": "a", "answer": "b", "split": "test"}
    (place / "train.jsonl").write_text(json.dumps(row), "utf-8")
    assert "no row to learn from: none has split 'train'" in complaint(fit(place))


def test_a_row_that_is_too_long_is_one_line(place: Path) -> None:
    (place / "train.jsonl").write_text(json.dumps({"prompt": "ä" * 300, "answer": "b"}), "utf-8")

    assert "train.jsonl:1: prompt and answer have" in complaint(fit(place))


def test_without_matplotlib_it_says_so_and_goes_on(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "composer.latent.chart", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    result = fit(place)

    assert result.exit_code == 0, result.output
    assert "no picture of the losses: matplotlib is not installed" in result.stderr
    assert not (place / "both" / "losses.svg").exists()


def test_help_teaches_with_an_example() -> None:
    said = CliRunner().invoke(app, ["latent", "fit", "--help"]).stdout

    assert "composer latent fit --experts smol,gemma --data train.jsonl" in " ".join(said.split())
