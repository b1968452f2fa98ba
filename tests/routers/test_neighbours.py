from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from shutil import copytree, rmtree
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import ConfigError, RoutingError
from composer.outcomes import OutcomeTable, RecordedExpert, RecordedQuery
from composer.types import Message, Query, Scores
from routers.baselines import PriorRouter
from routers.encoder import HashingEncoder
from routers.neighbours import NeighboursRouter

if TYPE_CHECKING:
    from composer.types import Float32Array

NAN = math.nan
SEEDS = st.integers(0, 2**32 - 1)
TASKS = {
    "maths": (
        "Solve the equation {} for x",
        "2x + {n} = {n}7",
        "x - {n} = 4",
        "5x = {n}0",
        "x = 1",
    ),
    "law": ("Is a contract of {} binding?", "sale no. {n}", "a minor", "rent", "{n} witnesses"),
    "food": ("How do I cook {}?", "{n} eggs", "rice with {n} spices", "a pie", "soup"),
}
ONLY_MEANING: dict[str, Any] = {"lexical_share": 0}


def make_table(
    prompts: Sequence[str], score: Sequence[Sequence[float]], experts: str, categories: str = ""
) -> OutcomeTable:
    """What experts, a letter each, scored on some prompts; a letter a category, too."""
    queries = [
        RecordedQuery(f"q{row:02}", prompt, "train", categories[row] if categories else None)
        for row, prompt in enumerate(prompts)
    ]
    return OutcomeTable(
        "made",
        tuple(queries),
        tuple(map(RecordedExpert, experts)),
        np.array(score, np.float32).reshape(len(queries), len(experts)),
    )


@pytest.fixture(scope="module")
def topics() -> OutcomeTable:
    """Three specialists, each good at the tasks of its own topic and now and then at others."""
    rng = np.random.default_rng(0)
    queries: list[RecordedQuery] = []
    scores: list[list[float]] = []
    for topic, (frame, *details) in TASKS.items():
        for n, detail in product(range(4), details):
            prompt = frame.format(detail.format(n=n))
            queries.append(RecordedQuery(f"{topic}{len(queries)}", prompt, "train", topic))
            scores.append([float(rng.random() < (0.9 if name == topic else 0.3)) for name in TASKS])
    experts = tuple(map(RecordedExpert, TASKS))
    return OutcomeTable("topics", tuple(queries), experts, np.array(scores, np.float32))


def fit(table: OutcomeTable, **settings: Any) -> NeighboursRouter:
    return NeighboursRouter(HashingEncoder(), **{**ONLY_MEANING, **settings}).fit(table)


def ask(router: NeighboursRouter, *texts: str) -> Scores:
    queries = [Query(text, (Message("user", text),)) for text in texts]
    return router.score(queries, [None] * len(queries))


def qualities(router: NeighboursRouter, *texts: str) -> Float32Array:
    return ask(router, *texts).quality


ASKED = ["Solve the equation 9x = 81 for x", "Is a contract of work binding?", "How do I cook it?"]


@pytest.mark.parametrize("lexical_share", [0, 0.5])
@pytest.mark.parametrize("targets", ["scores", "successes"])
def test_the_expert_of_the_querys_topic_comes_first(
    topics: OutcomeTable, targets: str, lexical_share: float
):
    router = fit(topics, targets=targets, lexical_share=lexical_share)

    np.testing.assert_array_equal(qualities(router, *ASKED).argmax(axis=1), [0, 1, 2])


def random_table(seed: int, n: int = 12, m: int = 4) -> OutcomeTable:
    """Prompts of few words, so that some are the same and many alike, and scores with gaps."""
    rng = np.random.default_rng(seed)
    words = ["sort", "list", "contract", "soup", "数学", "rent"]
    prompts = [" ".join(rng.choice(words, rng.integers(1, 4))) for _ in range(n)]
    score = rng.choice([NAN, 0.0, 0.5, 1.0], (n, m))
    score[rng.integers(n)] = 1
    return make_table(prompts, score.tolist(), "abcdefgh"[:m], "".join(rng.choice([*"xyz"], n)))


def mixed(table: OutcomeTable, seed: int) -> OutcomeTable:
    """The same table, its rows and columns in another order."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(table.queries))
    columns = rng.permutation(len(table.names))
    return table.rows(rows).with_experts([table.names[int(column)] for column in columns])


@pytest.mark.parametrize("targets", ["scores", "successes"])
@settings(deadline=None, max_examples=10)
@given(seed=SEEDS)
def test_neither_the_order_of_the_rows_nor_of_the_columns_matters(targets: str, seed: int):
    table = random_table(seed)
    texts = ["sort the list", "soup", "contract rent", "数"]

    plain = fit(table, targets=targets)
    other = fit(mixed(table, seed), targets=targets)

    expected, found = ask(plain, *texts), ask(other, *texts)
    columns = [expected.experts.index(name) for name in found.experts]
    np.testing.assert_allclose(found.quality, expected.quality[:, columns], atol=1e-6)
    assert other.settings == plain.settings
    for row, column in product(range(len(texts)), range(len(columns))):
        assert found.why(row, column) == expected.why(row, columns[column])


def test_rows_of_one_prompt_share_its_place():
    table = make_table(["sort", "soup", "sort", "sort"], [[1], [1], [0], [0]], "a")

    quality = qualities(fit(table, k=1, shrinkage=0), "sort", "soup")

    np.testing.assert_allclose(quality[:, 0], [1 / 3, 1], atol=1e-6)


def test_more_rows_of_one_prompt_than_are_searched_still_score_alike_in_any_order():
    n = 40
    table = make_table(["sort"] * n, [[row % 2] for row in range(n)], "a")

    quality = qualities(fit(table, k=1, shrinkage=0), "sort")
    reordered = qualities(fit(table.rows(list(range(n))[::-1]), k=1, shrinkage=0), "sort")

    np.testing.assert_array_equal(quality, reordered)


def test_an_unknown_score_is_not_a_wrong_one():
    table = make_table(["sort a", "sort b", "sort c"], [[1, 1], [NAN, 0], [1, 1]], "ab")

    quality = qualities(fit(table, k=3, shrinkage=0, temperature=100), "sort")

    np.testing.assert_allclose(quality, [[1, 2 / 3]], atol=1e-2)


@pytest.mark.parametrize("shrinkage", [0, 5])
def test_an_expert_never_asked_near_the_query_keeps_its_overall_mean(shrinkage: float):
    prompts = ["sort a list", "sort the list", "boil the soup", "boil a soup", "boil an egg"]
    table = make_table(prompts, [[1, NAN], [1, NAN], [0, 1], [0, 0], [0, 0]], "ab", "xxyyz")

    scores = ask(fit(table, k=2, shrinkage=shrinkage, temperature=100), "sort the lists")

    assert scores.quality[0, 1] == pytest.approx(0.25)
    assert scores.why(0, 1).reason == "none of 2 neighbours tells of 'b'; its overall mean 0.25"


def test_a_row_of_which_nothing_is_known_is_no_neighbour():
    table = make_table(["sort", "soup"], [[NAN], [1]], "a")

    assert ask(fit(table, k=1), "sort").why(0, 0).details["neighbours"][0]["id"] == "q01"


@settings(deadline=None, max_examples=20)
@given(SEEDS)
def test_targets_of_successes_are_shares_averaged_over_neighbours_with_a_success(seed: int):
    table = random_table(seed)
    k, temperature = 3, 0.2
    texts = ["sort the list", "soup"]
    found = qualities(
        fit(table, targets="successes", k=k, temperature=temperature, shrinkage=0), *texts
    )

    solved = [row for row in range(len(table.queries)) if np.nansum(table.score[row]) > 0]
    recorded = HashingEncoder().encode([table.queries[row].prompt for row in solved])
    shares = [table.score[row] / np.nansum(table.score[row]) for row in solved]
    for text, quality in zip(texts, found, strict=True):
        cosines = recorded @ HashingEncoder().encode([text])[0]
        kth = np.sort(cosines)[::-1][min(k, len(solved)) - 1]
        nearer, tied = cosines > kth + 1e-6, np.abs(cosines - kth) <= 1e-6
        weights = np.exp((cosines - cosines.max()) / temperature)
        weights *= nearer + tied * (min(k, len(solved)) - nearer.sum()) / tied.sum()
        for column, predicted in enumerate(quality):
            known = [i for i in range(len(solved)) if weights[i] and shares[i][column] >= 0]
            if known:
                total = math.fsum(weights[i] * shares[i][column] for i in known)
                assert predicted == pytest.approx(
                    total / math.fsum(weights[i] for i in known), abs=1e-5
                )


def test_with_targets_of_successes_a_query_that_few_solved_says_more():
    table = make_table(["sort", "sort"], [[1, 1], [1, 0]], "ab")

    quality = qualities(fit(table, targets="successes", k=2, shrinkage=0), "sort")

    np.testing.assert_allclose(quality, [[0.75, 0.25]], atol=1e-6)


def test_queries_are_scored_in_batches_as_they_are_alone():
    rng = np.random.default_rng(0)
    n, m = 300, 60
    prompts = [f"{row} {'abc'[row % 3] * (row % 7)}" for row in range(n)]
    table = make_table(prompts, rng.random((n, m)).tolist(), "".join(map(chr, range(65, 65 + m))))
    router = fit(table, k=n, temperature=0.1, shrinkage=1)

    together = qualities(router, *prompts)

    alone = np.concatenate([qualities(router, prompt) for prompt in prompts[::50]])
    np.testing.assert_allclose(together[::50], alone, atol=1e-5)


def test_given_settings_are_used_as_given(topics: OutcomeTable):
    given: dict[str, Any] = {"k": 3, "temperature": 0.25, "shrinkage": 0, "targets": "successes"}

    router = NeighboursRouter(HashingEncoder(), **given, lexical_share=0)

    assert router.settings == {**given, "lexical_share": 0}
    assert router.fit(topics).settings == router.settings


def test_settings_left_open_are_chosen_on_the_table_and_told(topics: OutcomeTable):
    router = NeighboursRouter(HashingEncoder(), k=3, lexical_share=0)
    before = router.settings
    after = router.fit(topics).settings

    assert before["temperature"] is before["shrinkage"] is None
    assert after["k"] == 3
    assert after["temperature"] > 0
    assert after["shrinkage"] > 0
    assert json.loads(json.dumps(after, allow_nan=False)) == after


def test_what_was_chosen_is_chosen_anew_on_another_table(topics: OutcomeTable):
    noise = np.random.default_rng(0).random(topics.score.shape).astype(np.float32)
    router = fit(topics)
    before = router.settings

    assert router.fit(replace(topics, score=noise)).settings != before


@pytest.mark.parametrize(
    ("setting", "value", "remedy"),
    [
        ("k", 0, "give a whole number from 1, or leave it out"),
        ("k", 2.5, "give a whole number from 1, or leave it out"),
        ("k", True, "give a whole number from 1, or leave it out"),
        ("k", "5", "give a whole number from 1, or leave it out"),
        ("temperature", 0, "give a number from 1e-06, or leave it out"),
        ("temperature", NAN, "give a number from 1e-06, or leave it out"),
        ("temperature", math.inf, "give a number from 1e-06, or leave it out"),
        ("temperature", "1e-3", "give a number from 1e-06, or leave it out"),
        ("shrinkage", -1, "give a number from 0, or leave it out"),
        ("shrinkage", [1], "give a number from 0, or leave it out"),
    ],
)
def test_a_setting_out_of_its_range_is_refused(setting: str, value: Any, remedy: str):
    with pytest.raises(ConfigError) as error:
        NeighboursRouter(HashingEncoder(), **{setting: value})

    assert str(error.value) == f"router 'neighbours': {setting!r} is {value!r}; {remedy}"


def test_unknown_targets_are_answered_with_the_nearest_ones():
    with pytest.raises(ConfigError) as error:
        NeighboursRouter(HashingEncoder(), targets="sucesses")  # pyright: ignore[reportArgumentType]

    assert str(error.value) == (
        "router 'neighbours' has no targets 'sucesses'; "
        "did you mean 'successes'? choose from ['scores', 'successes']"
    )


def test_a_share_of_words_out_of_its_range_is_refused():
    with pytest.raises(ConfigError, match="'lexical_share' is 2; give a number from 0 to 1"):
        NeighboursRouter(HashingEncoder(), lexical_share=2)


def test_before_it_is_fitted_it_neither_scores_nor_saves(tmp_path: Path):
    router = NeighboursRouter(HashingEncoder())

    with pytest.raises(RoutingError, match="is not fitted; fit it on recorded outcomes"):
        ask(router, "sort")
    with pytest.raises(ConfigError, match="is not fitted; fit it before it is saved"):
        router.save(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("targets", "score", "name"),
    [
        ("scores", [[1, NAN], [0, NAN]], "b"),
        ("successes", [[1, NAN], [0, 0]], "b"),
        ("successes", [[0, 0], [0, 0]], "a"),
    ],
)
def test_an_expert_of_which_nothing_can_be_learned_is_refused_by_name(
    targets: str, score: list[list[float]], name: str
):
    with pytest.raises(ConfigError) as error:
        fit(make_table(["sort", "soup"], score, "ab"), targets=targets)

    assert str(error.value) == (
        f"router 'neighbours': no outcome of {name!r} to learn from; leave it out"
    )


def test_a_fit_that_fails_leaves_what_was_learned_before(topics: OutcomeTable):
    router = fit(topics)
    before = qualities(router, *ASKED)

    with pytest.raises(ConfigError, match="no outcome"):
        router.fit(replace(topics, score=np.full_like(topics.score, NAN)))

    np.testing.assert_array_equal(qualities(router, *ASKED), before)


class BreakableEncoder(HashingEncoder):
    """Does not work while it is broken."""

    is_broken = False

    def encode(self, texts: Sequence[str]) -> Float32Array:
        if self.is_broken:
            raise ConfigError("encoder 'breakable' is broken; mend it")
        return super().encode(texts)


def test_a_fit_that_the_encoder_fails_leaves_the_words_learned_before(topics: OutcomeTable):
    encoder = BreakableEncoder()
    router = NeighboursRouter(encoder, k=3, lexical_share=0.5).fit(topics)
    before = qualities(router, *ASKED)

    encoder.is_broken = True
    with pytest.raises(ConfigError, match="is broken"):
        router.fit(random_table(0))
    encoder.is_broken = False

    np.testing.assert_array_equal(qualities(router, *ASKED), before)


def test_evidence_names_the_nearest_recorded_query_and_how_the_expert_did_there():
    table = make_table(["sort the list", "boil the soup"], [[1, 0.25], [0, 1]], "ab")

    evidence = ask(fit(table, k=2, temperature=0.1, shrinkage=1), "sort the list").why(0, 1)

    assert evidence.reason == (
        "scored 0.25 on the nearest recorded query 'sort the list', cosine 1.00, of 2 that count"
    )
    assert evidence.details["neighbours"][0] == {
        "id": "q00",
        "prompt": "sort the list",
        "similarity": 1.0,
        "target": 0.25,
    }
    assert evidence.details["kernel"] == {"k": 2, "temperature": 0.1, "shrinkage": 1}


def test_evidence_passes_over_neighbours_on_which_the_expert_is_unknown():
    table = make_table(["sort the list", "sort a list"], [[1, NAN], [1, 0.5]], "ab")

    evidence = ask(fit(table, k=2), "sort the list").why(0, 1)

    assert evidence.reason.startswith("scored 0.50 on the nearest recorded query 'sort a list', ")


def test_evidence_says_when_scores_are_shares_of_the_successes():
    table = make_table(["sort the list"], [[1, 0.25]], "ab")

    evidence = ask(fit(table, targets="successes"), "sort the list").why(0, 1)

    assert evidence.reason.startswith("had 0.20 of the successes on the nearest recorded query ")
    assert evidence.details["neighbours"][0]["target"] == pytest.approx(0.2)


def test_evidence_tells_of_a_few_neighbours_only(topics: OutcomeTable):
    assert len(ask(fit(topics, k=20), "sort").why(0, 0).details["neighbours"]) == 5


def test_long_prompts_are_cut_whatever_the_language():
    table = make_table(["数" * 500, "two\nlines\u2028" + "x " * 500], [[1], [0]], "a")
    router = fit(table, k=1)

    chinese, english = ask(router, "数数"), ask(router, "x x")

    assert f"'{'数' * 57}...'" in chinese.why(0, 0).reason
    assert "'two lines x x " in english.why(0, 0).reason
    assert len(chinese.why(0, 0).details["neighbours"][0]["prompt"]) == 200


@pytest.mark.parametrize("lexical_share", [0, 0.5])
def test_a_loaded_router_says_what_the_saved_one_said(
    topics: OutcomeTable, tmp_path: Path, lexical_share: float
):
    router = fit(topics, k=7, lexical_share=lexical_share, targets="successes")
    router.save(tmp_path)

    loaded = NeighboursRouter.load(tmp_path, HashingEncoder())

    expected, found = ask(router, *ASKED), ask(loaded, *ASKED)
    assert found.experts == expected.experts
    assert loaded.settings == router.settings
    np.testing.assert_allclose(found.quality, expected.quality, atol=1e-6)
    assert found.why(0, 1) == expected.why(0, 1)


def test_a_loaded_router_chooses_anew_when_fitted_again(topics: OutcomeTable, tmp_path: Path):
    fit(random_table(0), k=7).save(tmp_path)

    loaded = NeighboursRouter.load(tmp_path, HashingEncoder()).fit(topics)

    assert loaded.settings == fit(topics, k=7).settings


class MirroringEncoder(HashingEncoder):
    """Another encoder of as many numbers."""

    def encode(self, texts: Sequence[str]) -> Float32Array:
        return super().encode(texts)[:, ::-1]


@pytest.mark.parametrize("lexical_share", [0, 0.5])
@pytest.mark.parametrize("encoder", [HashingEncoder(8), MirroringEncoder()])
def test_another_encoder_than_it_was_fitted_with_is_refused(
    topics: OutcomeTable, tmp_path: Path, lexical_share: float, encoder: HashingEncoder
):
    fit(topics, k=7, lexical_share=lexical_share).save(tmp_path)

    with pytest.raises(ConfigError) as error:
        NeighboursRouter.load(tmp_path, encoder)

    assert str(error.value) == (
        f"{tmp_path}: was fitted with another encoder; name that one, or fit it again"
    )


@pytest.fixture(scope="module")
def two_saved(topics: OutcomeTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An old router and a new one, of words too, saved in `old` and `new`."""
    folder = tmp_path_factory.mktemp("saved")
    fit(topics, k=3, lexical_share=0.5).save(folder / "old")
    fit(random_table(1), k=3, lexical_share=0.5).save(folder / "new")
    return folder


@pytest.fixture
def old(two_saved: Path, tmp_path: Path) -> Path:
    """A copy of the old router's folder, to be spoilt."""
    return copytree(two_saved / "old", tmp_path / "old")


def refusal(folder: Path) -> str:
    """Why it cannot be loaded; one line."""
    with pytest.raises(ConfigError) as error:
        NeighboursRouter.load(folder, HashingEncoder())
    assert "\n" not in str(error.value)
    return str(error.value)


FILES = ["router.json", "arrays.npz", "lexical/router.json", "lexical/arrays.npz"]


def test_json_and_plain_arrays_are_all_that_is_written(old: Path):
    files = sorted(path.relative_to(old).as_posix() for path in old.rglob("*") if path.is_file())

    assert files == sorted(FILES)
    for path in old.rglob("*.npz"):
        with np.load(path, allow_pickle=False) as arrays:
            assert all(arrays[name].dtype.kind == "f" for name in arrays.files)


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


def test_another_routers_folder_is_refused(topics: OutcomeTable, tmp_path: Path):
    PriorRouter().fit(topics).save(tmp_path)

    assert refusal(tmp_path).endswith(
        ": holds a saved 'prior', not 'neighbours'; name another folder"
    )


def test_a_newer_routers_folder_is_refused(old: Path):
    header = json.loads((old / "router.json").read_text("utf-8"))
    (old / "router.json").write_text(json.dumps(header | {"schema_version": 2}), "utf-8")

    assert refusal(old).endswith("; update the program or fit again")


@pytest.mark.parametrize(
    "blocked", ["lexical/.arrays.npz", "lexical/.router.json", ".arrays.npz", ".router.json"]
)
def test_a_save_that_ends_half_way_leaves_nothing_to_load(
    topics: OutcomeTable, old: Path, blocked: str
):
    (old / blocked).mkdir()
    with pytest.raises(IsADirectoryError):
        fit(topics, k=3, lexical_share=0.5).save(old)

    assert refusal(old).startswith(f"no saved router in {str(old)!r} ")


@pytest.mark.parametrize("name", ["lexical", "arrays.npz", "router.json"])
def test_parts_of_two_saves_are_never_read_as_one(two_saved: Path, old: Path, name: str):
    if (two_saved / "new" / name).is_dir():
        rmtree(old / name)
        copytree(two_saved / "new" / name, old / name)
    else:
        (old / name).write_bytes((two_saved / "new" / name).read_bytes())

    assert "fit" in refusal(old)


def test_a_save_over_another_router_leaves_nothing_of_it(two_saved: Path, old: Path):
    NeighboursRouter.load(two_saved / "new", HashingEncoder()).save(old)

    loaded = NeighboursRouter.load(old, HashingEncoder())
    expected = NeighboursRouter.load(two_saved / "new", HashingEncoder())
    np.testing.assert_array_equal(qualities(loaded, *ASKED), qualities(expected, *ASKED))
