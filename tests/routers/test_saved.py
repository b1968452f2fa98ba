from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from shutil import copytree, rmtree
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from composer.errors import ConfigError
from composer.outcomes import OutcomeTable, RecordedExpert
from composer.types import Annotation, Message, Query, Scores
from routers.artefact import save_artefact
from routers.category.learner import CategoryLearner
from routers.encoder import HashingEncoder
from routers.fitted import OutcomeRouter
from routers.loaded import load_outcome_router
from routers.neighbours.learner import NeighboursLearner
from routers.saved import save_router

if TYPE_CHECKING:
    from composer.protocols import Encoder
    from composer.types import Float32Array
    from routers.learning import Training

MakeTable = Callable[..., OutcomeTable]
FILES = ["router.json", "arrays.npz", "lexical/router.json", "lexical/arrays.npz"]
ASKED = ["Explain matrix sum.", "Which court hears the appeal?", "a broth of 大蒜", ""]


def make(settings: Mapping[str, Any]) -> NeighboursLearner:
    return NeighboursLearner(**settings)


def fit(table: OutcomeTable, **settings: Any) -> OutcomeRouter:
    return OutcomeRouter(make({"k": 7}), HashingEncoder(), **settings).fit(table)


def load(folder: Path, encoder: Encoder | None = None) -> OutcomeRouter:
    return load_outcome_router(folder, "neighbours", make, encoder or HashingEncoder())


def ask(router: OutcomeRouter) -> Scores:
    queries = [Query(text, (Message("user", text),)) for text in ASKED]
    return router.score(queries, [None] * len(queries))


def trained(router: OutcomeRouter) -> Training:
    assert router.fitted is not None
    return router.fitted.training


@pytest.fixture
def table(make_table: MakeTable) -> OutcomeTable:
    """With all that may be recorded, and with gaps in all that may have gaps."""
    made = make_table(30, unknown=0.2)
    queries = [
        replace(query, annotation=Annotation({"skills": ["é", "数"]}) if row % 2 else None)
        for row, query in enumerate(made.queries)
    ]
    queries[3] = replace(queries[3], category=None)
    experts = (
        RecordedExpert("ada", 0.5, 0.1, 0.2, description="Sums, “and more”."),
        RecordedExpert("bo", is_partial=True),
        made.experts[2],
    )
    cost = np.arange(90, dtype=np.float32).reshape(30, 3)
    cost[4, 1] = math.nan
    return replace(made, queries=tuple(queries), experts=experts, cost_usd=cost)


@pytest.mark.parametrize("lexical_share", [0, 0.5, 1])
@pytest.mark.parametrize("calibration", ["platt", "isotonic"])
def test_a_loaded_router_says_what_the_saved_one_said(
    table: OutcomeTable, tmp_path: Path, lexical_share: float, calibration: str
):
    router = fit(table, lexical_share=lexical_share, calibration=calibration)
    save_router(router, tmp_path)

    loaded = load(tmp_path)

    expected, found = ask(router), ask(loaded)
    assert found.experts == expected.experts
    assert loaded.settings == router.settings
    assert loaded.summary == router.summary
    np.testing.assert_array_equal(found.quality, expected.quality)
    for row, column in product(range(len(ASKED)), range(3)):
        assert found.why(row, column) == expected.why(row, column)


def test_a_query_of_known_category_scores_as_before_too(table: OutcomeTable, tmp_path: Path):
    router = OutcomeRouter(CategoryLearner(), HashingEncoder()).fit(table)
    save_router(router, tmp_path)
    asked = [Query(str(c), (Message("user", "a lease"),), c) for c in ("law", "cooking", None)]

    loaded = load_outcome_router(
        tmp_path, "category", lambda given: CategoryLearner(**given), HashingEncoder()
    )

    assert router.fitted is not None
    assert router.fitted.known.scale != router.fitted.hidden.scale
    np.testing.assert_array_equal(
        loaded.score(asked, [None] * 3).quality, router.score(asked, [None] * 3).quality
    )


@pytest.mark.parametrize("lexical_share", [0, 0.5, 1])
def test_all_that_was_learned_from_comes_back(
    table: OutcomeTable, tmp_path: Path, lexical_share: float
):
    router = fit(table, lexical_share=lexical_share)
    save_router(router, tmp_path)

    expected, found = trained(router), trained(load(tmp_path))

    assert found.experts == expected.experts
    assert found.batch.ids == expected.batch.ids
    assert found.batch.texts == expected.batch.texts
    assert found.batch.categories == expected.batch.categories
    assert found.batch.annotations == expected.batch.annotations
    np.testing.assert_array_equal(found.batch.embeddings, expected.batch.embeddings)
    np.testing.assert_allclose(found.batch.semantic, expected.batch.semantic, atol=1e-6)
    np.testing.assert_array_equal(found.score, expected.score)
    np.testing.assert_array_equal(found.folds, expected.folds)
    np.testing.assert_array_equal(found.cost_usd, expected.cost_usd)  # pyright: ignore[reportArgumentType]


def test_where_no_costs_were_known_none_come_back(table: OutcomeTable, tmp_path: Path):
    save_router(fit(replace(table, cost_usd=None)), tmp_path)

    assert trained(load(tmp_path)).cost_usd is None


def test_a_loaded_router_chooses_anew_what_was_left_open_when_fitted_again(
    table: OutcomeTable, make_table: MakeTable, tmp_path: Path
):
    save_router(fit(table), tmp_path)
    other = make_table(60, seed=3)

    loaded = load(tmp_path)
    before = loaded.settings

    assert loaded.fit(other).settings == fit(other).settings != before


def test_what_is_not_fitted_is_not_saved(tmp_path: Path):
    router = OutcomeRouter(make({}), HashingEncoder())

    with pytest.raises(ConfigError) as error:
        save_router(router, tmp_path)

    assert str(error.value) == "router 'neighbours' is not fitted; fit it before it is saved"
    assert not list(tmp_path.iterdir())


class MirroringEncoder(HashingEncoder):
    """Another encoder of as many numbers."""

    def encode(self, texts: Sequence[str]) -> Float32Array:
        return super().encode(texts)[:, ::-1]


@pytest.mark.parametrize("lexical_share", [0, 0.5])
@pytest.mark.parametrize("encoder", [HashingEncoder(8), MirroringEncoder()])
def test_another_encoder_than_it_was_fitted_with_is_refused(
    table: OutcomeTable, tmp_path: Path, lexical_share: float, encoder: HashingEncoder
):
    save_router(fit(table, lexical_share=lexical_share), tmp_path)

    with pytest.raises(ConfigError) as error:
        load(tmp_path, encoder)

    assert str(error.value) == (
        f"{tmp_path}: was fitted with another encoder; name that one, or fit it again"
    )


@pytest.fixture(scope="module")
def two_saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder, for an old router and a new one."""
    return tmp_path_factory.mktemp("saved")


@pytest.fixture
def new(two_saved: Path, make_table: MakeTable) -> Path:
    """Another router than the old one; not to be spoilt."""
    if not (two_saved / "new").exists():
        save_router(fit(make_table(24, seed=1)), two_saved / "new")
    return two_saved / "new"


@pytest.fixture
def old(two_saved: Path, table: OutcomeTable, tmp_path: Path) -> Path:
    """A copy of the old router's folder, to be spoilt."""
    if not (two_saved / "old").exists():
        save_router(fit(table), two_saved / "old")
    return copytree(two_saved / "old", tmp_path / "old")


def refusal(folder: Path) -> str:
    """Why it cannot be loaded; one line."""
    with pytest.raises(ConfigError) as error:
        load(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_json_and_plain_arrays_are_all_that_is_written(old: Path):
    files = sorted(path.relative_to(old).as_posix() for path in old.rglob("*") if path.is_file())

    assert files == sorted(FILES)
    for path in old.rglob("*.npz"):
        with np.load(path, allow_pickle=False) as arrays:
            assert all(arrays[name].dtype.kind in "fi" for name in arrays.files)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_refused(old: Path, name: str, kept: float):
    whole = (old / name).read_bytes()
    (old / name).write_bytes(whole[: int(len(whole) * kept)])

    assert refusal(old).endswith("; fit and save it again")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(old: Path, name: str):
    (old / name).unlink()

    assert "; fit" in refusal(old)


def test_another_routers_folder_is_refused(tmp_path: Path):
    save_artefact(tmp_path, "prior", {}, {})

    assert refusal(tmp_path) == (
        f"{tmp_path}: holds a saved 'prior', not 'neighbours'; name another folder"
    )


def edited(folder: Path, **changes: Any) -> Path:
    """The folder, with changes in what its JSON file says of the router; None: not said."""
    header = json.loads((folder / "router.json").read_text("utf-8"))
    meta = {**header["meta"], **changes}
    header["meta"] = {key: value for key, value in meta.items() if value is not None}
    (folder / "router.json").write_text(json.dumps(header), "utf-8")
    return folder


def test_a_newer_routers_folder_is_refused(old: Path):
    header = json.loads((old / "router.json").read_text("utf-8"))
    (old / "router.json").write_text(json.dumps(header | {"schema_version": 99}), "utf-8")

    assert refusal(old).endswith("; update the program or fit again")


@pytest.mark.parametrize("changes", [{"ids": None}, {"experts": [{"nom": "a"}]}, {"model": {}}])
def test_a_folder_that_does_not_say_all_is_refused(old: Path, changes: dict[str, Any]):
    message = refusal(edited(old, **changes))

    assert message.startswith(f"{old}: is no router that this program can read (")
    assert message.endswith("; fit and save it again")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"given": {"k": -1}}, "router 'neighbours': 'k' is -1; "),
        ({"lexical_share": 7}, "'lexical_share' is 7; "),
        ({"calibration": "none"}, "router 'neighbours' has no calibration 'none'; "),
    ],
)
def test_settings_that_are_no_longer_right_are_refused_in_their_own_words(
    old: Path, changes: dict[str, Any], message: str
):
    assert refusal(edited(old, **changes)).startswith(message)


@pytest.mark.parametrize(
    "blocked", ["lexical/.arrays.npz", "lexical/.router.json", ".arrays.npz", ".router.json"]
)
def test_a_save_that_ends_half_way_leaves_nothing_to_load(new: Path, old: Path, blocked: str):
    (old / blocked).mkdir()
    with pytest.raises(IsADirectoryError):
        save_router(load(new), old)

    assert refusal(old).startswith(f"no saved router in {str(old)!r} ")


@pytest.mark.parametrize("name", ["lexical", "arrays.npz", "router.json"])
def test_parts_of_two_saves_are_never_read_as_one(new: Path, old: Path, name: str):
    if (new / name).is_dir():
        rmtree(old / name)
        copytree(new / name, old / name)
    else:
        (old / name).write_bytes((new / name).read_bytes())

    assert "fit" in refusal(old)


def test_a_save_over_another_router_leaves_nothing_of_it(new: Path, old: Path):
    save_router(load(new), old)

    expected, found = load(new), load(old)
    np.testing.assert_array_equal(ask(found).quality, ask(expected).quality)
    assert trained(found).batch.ids == trained(expected).batch.ids


def test_a_router_without_words_saved_over_one_with_words_is_read_without(
    table: OutcomeTable, old: Path
):
    router = fit(table, lexical_share=0)
    save_router(router, old)

    np.testing.assert_array_equal(ask(load(old)).quality, ask(router).quality)
