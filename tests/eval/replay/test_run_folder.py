from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import ConfigError
from composer.outcomes import OutcomeTable, RecordedQuery
from eval.replay.judged import Decision, Judged
from eval.replay.methods import Method
from eval.replay.parts import make_parts
from eval.replay.run import Replay, replay
from eval.replay.run_folder import RunFolder, fingerprint, make_manifest, open_run, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eval.replay.parts import Round
    from tests.eval.replay.conftest import Methods

ROOT = Path(__file__).parents[3]
NAN = math.nan
NAMES = (
    "random",
    "best-single",
    "prior",
    "neighbours[k=3,lexical_share=0]",
    "vote-majority",
    "category-hindsight",
    "oracle",
)
KILLED = """
import os, signal, sys
from pathlib import Path
from composer.outcomes import load_table
from eval.replay.methods import make_method
from eval.replay.parts import make_parts
from eval.replay.run import replay
from eval.replay.run_folder import make_manifest, open_run
from routers.encoder import HashingEncoder

table, out = load_table(Path(sys.argv[1])), Path(sys.argv[2])
methods = [make_method(name, HashingEncoder(32)) for name in sys.argv[3:]]
rows = 0

def on_row():
    global rows
    rows += 1
    if rows == 25:
        os.kill(os.getpid(), signal.SIGKILL)

folder = open_run(out, make_manifest("replay", table, {}))
replay(table, make_parts(table), methods, folder=folder, on_method=lambda *_: on_row)
"""
"""Dies among the 20 rows of the second method that takes time."""

NAME = st.text(st.sampled_from("aB1-_.,=+[]/\\%: \u00e9\u2028\n"), min_size=1, max_size=12).filter(
    lambda name: name not in {".", ".."}
)
NUMBER = st.one_of(st.just(NAN), st.floats(0, 1))
DECISION = st.builds(
    Decision,
    st.text(max_size=5),
    st.one_of(st.none(), NAME),
    st.lists(NAME, max_size=3).map(tuple),
    NUMBER,
    NUMBER,
    NUMBER,
    st.booleans(),
)


def counting(methods: Sequence[Method], judged: Counter[str]) -> list[Method]:
    """The same methods, that count how often each judges."""

    def count(method: Method) -> Method:
        def judge(each: Round, *, known_category: bool, on_row: Callable[[], None]) -> Judged:
            judged[method.name] += 1
            return method.judge(each, known_category=known_category, on_row=on_row)

        return replace(method, judge=judge)

    return [count(method) for method in methods]


def run(
    table: OutcomeTable, methods: Sequence[Method], folder: RunFolder | None, **options: Any
) -> bytes:
    """The rows of a replay, as they would be written."""
    found: Replay = replay(table, make_parts(table), methods, folder=folder, **options)
    return json.dumps([row.to_json() for row in found.rows]).encode()


def opened(path: Path, table: OutcomeTable, **options: Any) -> RunFolder:
    return open_run(path, make_manifest("replay", table, options))


@settings(max_examples=40, deadline=None)
@given(part=NAME, method=NAME, decisions=st.lists(DECISION, max_size=3))
def test_decisions_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, part: str, method: str, decisions: list[Decision]
):
    path = tmp_path_factory.mktemp("run")
    judged = Judged(method, tuple(decisions), {"k": 3})

    RunFolder(path).save(part, judged)

    read = RunFolder(path).load(part, method)
    assert read is not None
    assert (repr(read.decisions), read.method) == (repr(judged.decisions), method)
    assert (read.settings, read.quality) == ({"k": 3}, None)
    assert {file.parent.parent.parent for file in path.rglob("*.json*")} == {path}


def test_predicted_qualities_are_read_as_they_were_written(tmp_path: Path):
    quality = np.array([[0.1, NAN], [0.3, 1]], np.float32)

    RunFolder(tmp_path).save("test", Judged("m", (), {}, quality))

    read = RunFolder(tmp_path).load("test", "m")
    assert read is not None
    assert read.quality is not None
    assert read.quality.dtype == np.float32
    np.testing.assert_array_equal(read.quality, quality)


def test_methods_of_similar_names_do_not_meet(tmp_path: Path):
    names = ["m[a=b/c]", "m[a=b_c]", "m[a=b%2Fc]", "m[a=b.c]", "m[a=b]", "m"]
    folder = RunFolder(tmp_path)

    for k, name in enumerate(names):
        folder.save("a/b", Judged(name, (), {"k": k}))

    read = [folder.load("a/b", name) for name in names]
    assert [each and each.settings["k"] for each in read] == [*range(len(names))]
    assert folder.load("a", "m") is None


def test_a_decision_is_one_line_of_json(tmp_path: Path):
    decisions = (
        Decision("q\n1", "ann", ("ann", "bea"), 1.0, 0.25, 0.5),
        Decision("q2", None, (), NAN, NAN, failed=True),
    )

    RunFolder(tmp_path).save("test", Judged("vote[k=2]", decisions))

    text = (tmp_path / "decisions" / "test" / "vote[k=2].jsonl").read_text("utf-8")
    assert [json.loads(line) for line in text.splitlines()] == [
        {
            "query_id": "q\n1",
            "expert": "ann",
            "asked": ["ann", "bea"],
            "score": 1.0,
            "cost_usd": 0.25,
            "predicted": 0.5,
            "failed": False,
        },
        {
            "query_id": "q2",
            "expert": None,
            "asked": [],
            "score": None,
            "cost_usd": None,
            "predicted": None,
            "failed": True,
        },
    ]


def test_decisions_without_their_settings_are_not_done(tmp_path: Path):
    folder = RunFolder(tmp_path)
    folder.save("test", Judged("m", ()))
    (tmp_path / "decisions" / "test" / "m.json").unlink()

    assert folder.load("test", "m") is None


def test_a_json_file_is_written_whole_or_not_at_all(tmp_path: Path):
    write_json(tmp_path / "rows.json", {"n": 1})

    with pytest.raises(ValueError, match="Out of range float"):
        write_json(tmp_path / "rows.json", {"n": NAN})

    assert [file.name for file in tmp_path.iterdir()] == ["rows.json"]
    assert json.loads((tmp_path / "rows.json").read_text("utf-8")) == {"n": 1}


def test_an_interrupted_run_goes_on_where_it_was(
    tmp_path: Path, graded: OutcomeTable, methods: Methods
):
    judged: Counter[str] = Counter()
    asked = counting(methods(*NAMES), judged)

    def interrupt(part: str, method: str, n: int) -> Callable[[], None]:
        if method == NAMES[3]:
            raise KeyboardInterrupt
        return lambda: None

    with pytest.raises(KeyboardInterrupt):
        run(graded, asked, opened(tmp_path, graded), on_method=interrupt)
    assert judged == dict.fromkeys(NAMES[:3], 1)

    resumed = run(graded, asked, opened(tmp_path, graded))

    assert judged == dict.fromkeys(NAMES, 1)
    assert resumed == run(graded, methods(*NAMES), None)


def test_a_run_that_was_killed_goes_on_where_it_was(
    tmp_path: Path, saved: Path, graded: OutcomeTable, methods: Methods
):
    out = tmp_path / "run"
    command = [sys.executable, "-c", KILLED, str(saved), str(out), *NAMES]
    died = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    judged: Counter[str] = Counter()

    resumed = run(graded, counting(methods(*NAMES), judged), opened(out, graded))

    assert judged == dict.fromkeys(NAMES[3:], 1)
    assert resumed == run(graded, methods(*NAMES), None)


def test_a_finished_run_judges_nothing_again(
    tmp_path: Path, graded: OutcomeTable, methods: Methods
):
    judged: Counter[str] = Counter()
    asked = counting(methods(*NAMES), judged)

    first, again = (run(graded, asked, opened(tmp_path, graded)) for _ in range(2))

    assert judged == dict.fromkeys(NAMES, 1)
    assert again == first


def test_methods_that_are_added_later_are_judged_beside_those_that_are_there(
    tmp_path: Path, graded: OutcomeTable, methods: Methods
):
    judged: Counter[str] = Counter()
    run(graded, counting(methods(*NAMES[1::5]), judged), opened(tmp_path, graded))

    more = run(graded, counting(methods(*NAMES), judged), opened(tmp_path, graded))

    assert judged == dict.fromkeys(NAMES, 1)
    assert more == run(graded, methods(*NAMES), None)


def changed_query(table: OutcomeTable, **change: Any) -> OutcomeTable:
    first: RecordedQuery = replace(table.queries[0], **change)
    return replace(table, queries=(first, *table.queries[1:]))


OTHER_DATA: dict[str, Callable[[OutcomeTable], OutcomeTable]] = {
    "a score": lambda t: replace(t, score=np.where(np.eye(len(t.score), 3) > 0, 0.5, t.score)),
    "a cost": lambda t: replace(t, cost_usd=t.score * 2),
    "no costs": lambda t: replace(t, cost_usd=None),
    "no answers": lambda t: replace(t, answers=None),
    "a pool": lambda t: t.with_experts(["ann", "bea"]),
    "an order of columns": lambda t: t.with_experts(["cy", "bea", "ann"]),
    "a name": lambda t: replace(t, experts=(replace(t.experts[0], name="new"), *t.experts[1:])),
    "fewer rows": lambda t: t.rows(range(1, 40)),
    "an id": lambda t: changed_query(t, id="new"),
    "a prompt": lambda t: changed_query(t, prompt="new"),
    "a category": lambda t: changed_query(t, category=None),
    "a split": lambda t: changed_query(t, split="ood"),
    "a flag": lambda t: changed_query(t, flags=frozenset({"in_train"})),
}


@pytest.mark.parametrize("other", OTHER_DATA)
def test_a_folder_of_a_run_on_other_data_is_refused(
    tmp_path: Path, graded: OutcomeTable, other: str
):
    opened(tmp_path, graded)

    with pytest.raises(ConfigError) as refusal:
        opened(tmp_path, OTHER_DATA[other](graded))

    assert str(refusal.value) == (
        f"{tmp_path}: holds a run on other data or with other options; name another folder, or "
        "remove it"
    )


def test_other_answers_are_other_data(graded: OutcomeTable):
    assert graded.answers is not None
    codes = graded.answers.codes.copy()
    codes[0, 0] = (codes[0, 0] + 1) % 3

    other = replace(graded, answers=replace(graded.answers, codes=codes))

    assert fingerprint(other) != fingerprint(graded)


def test_the_same_data_read_again_are_the_same(graded: OutcomeTable):
    again = replace(graded, score=np.asfortranarray(graded.score.copy()), name="moved")

    assert fingerprint(again) == fingerprint(graded)


@pytest.mark.parametrize("options", [{}, {"seed": 1}, {"seed": 0, "out_of_fold": True}])
def test_a_folder_of_a_run_with_other_options_is_refused(
    tmp_path: Path, graded: OutcomeTable, options: dict[str, Any]
):
    opened(tmp_path, graded, seed=0)

    with pytest.raises(ConfigError, match="holds a run on other data or with other options"):
        opened(tmp_path, graded, **options)


def test_a_folder_of_another_kind_of_run_is_refused(tmp_path: Path, graded: OutcomeTable):
    open_run(tmp_path, make_manifest("pair", graded, {}))

    with pytest.raises(ConfigError, match="holds a run on other data or with other options"):
        opened(tmp_path, graded)


def test_another_version_or_command_goes_on_with_a_run(tmp_path: Path, graded: OutcomeTable):
    manifest = make_manifest("replay", graded, {})
    open_run(tmp_path, {**manifest, "versions": {"numpy": "0"}, "command": ["replay"]})

    open_run(tmp_path, manifest)

    assert json.loads((tmp_path / "manifest.json").read_text("utf-8")) == manifest


def test_the_manifest_says_what_was_run_on_what(tmp_path: Path, graded: OutcomeTable):
    opened(tmp_path, graded, seed=3)

    manifest = json.loads((tmp_path / "manifest.json").read_text("utf-8"))
    assert (manifest["kind"], manifest["dataset"]) == ("replay", "made")
    assert manifest["experts"] == ["ann", "bea", "cy"]
    assert manifest["options"] == {"seed": 3}
    assert manifest["data_sha256"] == fingerprint(graded)
    assert {"python", "numpy"} <= manifest["versions"].keys()


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path, graded: OutcomeTable):
    (tmp_path / "thesis.tex").write_text("ten years", "utf-8")

    with pytest.raises(ConfigError, match=r"is not empty and holds no run; name another folder$"):
        opened(tmp_path, graded)

    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("text", ["", "[]", "{}", "not JSON"])
def test_a_manifest_of_something_else_is_refused(tmp_path: Path, graded: OutcomeTable, text: str):
    (tmp_path / "manifest.json").write_text(text, "utf-8")

    with pytest.raises(ConfigError, match=r"not a run's manifest; name another folder$"):
        opened(tmp_path, graded)


def test_a_file_is_no_folder_of_a_run(tmp_path: Path, graded: OutcomeTable):
    (tmp_path / "file").write_text("mine", "utf-8")

    with pytest.raises(ConfigError, match=r"is not empty and holds no run; name another folder$"):
        opened(tmp_path / "file", graded)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, graded: OutcomeTable):
    (tmp_path / "file").write_text("mine", "utf-8")

    with pytest.raises(ConfigError, match=r"run: cannot be written \(.*\); name another folder$"):
        opened(tmp_path / "file" / "run", graded)


def test_a_new_folder_and_an_empty_one_are_opened(tmp_path: Path, graded: OutcomeTable):
    (tmp_path / "empty").mkdir()

    for path in (tmp_path / "empty", tmp_path / "new" / "run"):
        assert opened(path, graded) == RunFolder(path)
        assert (path / "manifest.json").is_file()
