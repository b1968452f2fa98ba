from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import ConfigError
from eval.metrics import apgr, cpt, strong_weak_curve
from eval.replay.pair import Draw, PairRow, check_method, judge_pair, make_draws, pair_methods
from eval.replay.run_folder import make_manifest, open_run
from routers.encoder import HashingEncoder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from composer.outcomes import OutcomeTable
    from composer.types import Float32Array
    from tests.eval.replay.conftest import MakeTable

ENCODER = HashingEncoder(32)
PAIR: dict[str, Any] = {"strong": "ann", "weak": "bea"}
PROMISED = {
    "method", "prefix", "labels", "n_seeds", "n", "apgr", "apgr_ci95", "apgr_by_seed", "cpt50",
    "cpt80", "category", "curve",
}  # fmt: skip
LINE = st.tuples(
    st.sampled_from(["train", "test", "test!"]),
    st.sampled_from(["a/x", "a/y", "b", "-"]),
    st.sampled_from(["1 0", "0 1", "1 1", "1 ?", "0 0"]),
).map(" ".join)


def ids(table: OutcomeTable) -> list[str]:
    return [query.id for query in table.queries]


def judged(name: str, draws: Sequence[Draw], **options: Any) -> PairRow:
    return judge_pair(name, draws, ENCODER, n_resamples=100, **options)


@pytest.fixture(scope="session")
def subjects(make_table: MakeTable) -> OutcomeTable:
    """Ann is far better at maths, a little better at law, and at art as good as bea."""
    rng = np.random.default_rng(1)
    lines: list[str] = []
    for row in range(90):
        subject, weak = (("maths", 0.1), ("law", 0.6), ("art", 0.8))[row % 3]
        grades = (rng.random(2) < (0.85, weak)).astype(int)
        lines.append(f"test {subject} {grades[0]} {grades[1]}")
    return make_table(*lines)


@settings(max_examples=40, deadline=None)
@given(lines=st.lists(LINE, min_size=1, max_size=20), prefix=st.sampled_from(["", "a/", "a/x"]))
def test_labels_never_judge_and_every_other_question_does(
    make_table: MakeTable, lines: list[str], prefix: str
):
    table = make_table("train a/x 1 0", "test a/x 0 1", *lines)

    draws = make_draws(table, **PAIR, prefix=prefix)

    usable = {
        query.id
        for query, cells in zip(table.queries, table.score, strict=True)
        if not query.flags
        and (query.category or "").startswith(prefix)
        and not np.isnan(cells).any()
    }
    for draw in draws:
        labels, others = ids(draw.labels), ids(draw.judged)
        assert not set(labels) & set(others)
        assert sorted([*labels, *others]) == sorted(usable)
        assert len(labels) == len(usable) // 2
        assert draw.labels.names == draw.judged.names == ("ann", "bea")


def test_each_seed_draws_other_labels(subjects: OutcomeTable):
    draws = make_draws(subjects, **PAIR, n_seeds=4)

    assert len({tuple(ids(draw.labels)) for draw in draws}) == 4


def test_more_seeds_leave_the_first_draws_as_they_were(subjects: OutcomeTable):
    few, more = (make_draws(subjects, **PAIR, n_seeds=n) for n in (2, 4))

    assert [ids(d.labels) for d in few] == [ids(d.labels) for d in more[:2]]


def test_as_many_labels_are_drawn_as_are_asked_for(subjects: OutcomeTable):
    draws = make_draws(subjects, **PAIR, n_labels=89)

    assert {(len(d.labels.queries), len(d.judged.queries)) for d in draws} == {(89, 1)}


def test_the_columns_are_the_strong_expert_and_the_weak_one(make_table: MakeTable):
    table = make_table("test - 0.1 0.2 0.3", "test - 0.1 0.2 0.3")

    (draw,) = make_draws(table, strong="cy", weak="ann", n_seeds=1)

    assert draw.judged.names == ("cy", "ann")
    np.testing.assert_array_equal(draw.judged.score, np.array([[0.3, 0.1]], np.float32))


def test_a_third_expert_that_was_not_asked_everything_costs_no_question(make_table: MakeTable):
    table = make_table("test - 1 0 ?", "test - 1 0 1", "test - 1 ? 1")

    (draw,) = make_draws(table, **PAIR, n_seeds=1)

    assert sorted(ids(draw.labels) + ids(draw.judged)) == ["q0", "q1"]


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(12)))
def test_no_order_of_the_file_changes_a_draw_or_a_figure(make_table: MakeTable, order: list[int]):
    grades = ["1 0", "0 1", "1 0", "1 1", "0 0", "1 0"] * 2
    table = make_table(*(f"test {'ab'[row % 2]} {cells}" for row, cells in enumerate(grades)))

    draws = make_draws(table, **PAIR, n_seeds=2)
    again = make_draws(table.rows(order).with_experts(["bea", "ann"]), **PAIR, n_seeds=2)

    assert [(ids(d.labels), ids(d.judged)) for d in draws] == [
        (ids(d.labels), ids(d.judged)) for d in again
    ]
    for name in ("category-expert", "neighbours[k=2,lexical_share=0]"):
        assert judged(name, draws).to_json() == judged(name, again).to_json()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"strong": "ann", "weak": "ann"}, "strong and weak are both 'ann'; name two experts"),
        ({"strong": "anna", "weak": "bea"}, "no expert 'anna'; did you mean 'ann'?"),
        ({"strong": "ann", "weak": "baa"}, "no expert 'baa'; did you mean 'bea'?"),
        ({**PAIR, "prefix": "mats"}, "no category 'mats'; did you mean 'maths'?"),
        ({**PAIR, "n_labels": 0}, "0 labels of 90 questions with prefix '' leave none to"),
        ({**PAIR, "n_labels": 90}, "leave none to learn from or to judge by; give 1 to 89"),
        ({**PAIR, "n_labels": 30, "prefix": "law"}, "30 labels of 30 questions with prefix 'law'"),
    ],
)
def test_draws_that_cannot_be_made_are_refused_in_one_line(
    subjects: OutcomeTable, options: dict[str, Any], said: str
):
    with pytest.raises(ConfigError) as refusal:
        make_draws(subjects, **options)

    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("line", ["test! a 1 0", "test b 1 0", "test a 1 ?"])
def test_a_single_usable_question_is_too_few(make_table: MakeTable, line: str):
    table = make_table("test a 1 0", line)

    with pytest.raises(ConfigError, match=r"1 questions with prefix 'a' .* are too few to learn"):
        make_draws(table, **PAIR, prefix="a")


def test_random_recovers_half_of_the_gap(subjects: OutcomeTable):
    row = judged("random", make_draws(subjects, **PAIR))

    assert row.apgr == pytest.approx(0.5, abs=1e-12)
    assert row.apgr_ci95 == pytest.approx((0.5, 0.5), abs=1e-12)
    assert (row.cpt50, row.cpt80) == pytest.approx((0.5, 0.8))


def test_the_category_expert_is_told_the_category_and_recovers_more_than_random(
    subjects: OutcomeTable,
):
    draws = make_draws(subjects, **PAIR)

    told, hidden = judged("category-expert", draws), judged("prior", draws)

    assert (told.category, hidden.category) == ("known", "hidden")
    assert told.apgr_ci95[0] > 0.5
    assert hidden.apgr == pytest.approx(0.5, abs=1e-12)


def test_a_router_knows_categories_where_it_is_told_them(subjects: OutcomeTable):
    draws = make_draws(subjects, **PAIR)

    prior = judged("prior", draws, known_category=True)

    assert prior.category == "known"
    assert prior.apgr_by_seed == judged("category-expert", draws).apgr_by_seed


def test_the_category_expert_prefers_the_strong_one_by_its_mean_gain(subjects: OutcomeTable):
    (draw,) = make_draws(subjects, **PAIR, n_seeds=1)

    row = judged("category-expert", [draw])

    gains = np.subtract(*draw.labels.category_means().T)
    preference = gains[draw.judged.category_codes]
    curve = strong_weak_curve(preference, *draw.judged.score.T)
    assert row.apgr == pytest.approx(apgr(curve))
    assert (row.cpt50, row.cpt80) == pytest.approx((cpt(curve, 0.5), cpt(curve, 0.8)))


@pytest.mark.parametrize("name", ["random", "category-expert", "neighbours[lexical_share=0]"])
def test_nothing_recovers_more_than_the_oracle(subjects: OutcomeTable, name: str):
    draws = make_draws(subjects, **PAIR)

    best, row = judged("oracle", draws), judged(name, draws)

    assert (np.array(best.apgr_by_seed) >= row.apgr_by_seed).all()
    assert (best.curve.accuracy >= row.curve.accuracy - 1e-12).all()
    assert best.cpt80 <= row.cpt80


def test_a_row_is_the_mean_over_the_draws(subjects: OutcomeTable):
    draws = make_draws(subjects, **PAIR, n_seeds=3)

    row = judged("category-expert", draws)

    assert (row.labels, row.n, row.n_seeds) == (45, 45, 3)
    assert row.apgr == pytest.approx(np.mean(row.apgr_by_seed))
    assert row.apgr_by_seed == tuple(
        judged("category-expert", [draw]).apgr_by_seed[0] for draw in draws
    )
    assert row.apgr_ci95[0] < row.apgr < row.apgr_ci95[1]
    strong, weak = (np.mean([draw.judged.score[:, c].mean() for draw in draws]) for c in (0, 1))
    assert row.curve.accuracy[[0, -1]] == pytest.approx([weak, strong])


def test_each_draw_is_told_of(subjects: OutcomeTable):
    told: list[None] = []

    judged("random", make_draws(subjects, **PAIR, n_seeds=3), on_draw=lambda: told.append(None))

    assert len(told) == 3


def test_the_json_has_the_promised_keys(subjects: OutcomeTable):
    row = judged("oracle", make_draws(subjects, **PAIR, prefix="m"), prefix="m").to_json()

    assert row.keys() == PROMISED
    assert row["curve"].keys() == {"strong_share", "accuracy"}
    assert (row["method"], row["prefix"], row["labels"], row["n"]) == ("oracle", "m", 15, 15)


def test_a_pair_without_a_gap_has_null_in_its_json(make_table: MakeTable):
    draws = make_draws(make_table(*["test - 0 1"] * 6), **PAIR)

    row = judged("random", draws).to_json()

    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert (row["apgr"], row["apgr_ci95"], row["cpt50"]) == (None, [None, None], None)
    assert math.isnan(judged("oracle", draws).apgr)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("neighbour", "no method 'neighbour'; did you mean 'neighbours'?"),
        ("vote-majority", "no method 'vote-majority'; choose from ['category', "),
        ("best-single", "no method 'best-single'; choose from ['category', "),
        ("random[seed=1]", "method 'random' takes no settings; write 'random' alone"),
        ("neighbours[k=1", "cannot read the method 'neighbours[k=1'; write name or"),
        ("neighbours[kay=1]", "router 'neighbours' has no setting 'kay'; "),
    ],
)
def test_a_name_that_is_no_method_is_refused_before_anything_is_judged(
    subjects: OutcomeTable, name: str, said: str
):
    for refuse in (
        lambda: check_method(name, ENCODER),
        lambda: judged(name, make_draws(subjects, **PAIR)),
    ):
        with pytest.raises(ConfigError) as refusal:
            refuse()
        assert said in str(refusal.value)
        assert "\n" not in str(refusal.value)


def test_every_method_that_is_run_by_default_is_one():
    for name in pair_methods(ENCODER):
        check_method(name, ENCODER)


def test_by_default_every_rung_and_every_router_that_needs_the_text_alone_is_run():
    names = pair_methods(ENCODER)

    assert names[:2] == ["random", "category-expert"]
    assert names[-1] == "oracle"
    assert {"neighbours", "stacked"} <= set(names)
    assert not {"description", "likelihood", "prior"} & set(names)


class CountingEncoder(HashingEncoder):
    """Counts the texts that it embeds."""

    def __init__(self) -> None:
        super().__init__(32)
        self.n = 0

    def encode(self, texts: Sequence[str]) -> Float32Array:
        self.n += len(texts)
        return super().encode(texts)


def test_an_interrupted_run_goes_on_with_the_draw_it_stopped_at(
    subjects: OutcomeTable, tmp_path: Path
):
    draws, name = make_draws(subjects, **PAIR, n_seeds=3), "neighbours[lexical_share=0]"
    run = open_run(tmp_path / "run", make_manifest("pair", subjects, {}))
    steps = iter([None])
    with pytest.raises(StopIteration):
        judged(name, draws, run=run, on_draw=lambda: next(steps))
    encoder = CountingEncoder()

    resumed = judge_pair(name, draws, encoder, n_resamples=100, run=run)

    assert encoder.n == 90
    assert resumed.to_json() == judged(name, draws).to_json()


def test_each_judged_question_of_each_draw_is_a_line(subjects: OutcomeTable, tmp_path: Path):
    draws = make_draws(subjects, **PAIR, n_seeds=2)
    run = open_run(tmp_path / "run", make_manifest("pair", subjects, {}))

    judged("category-expert", draws, run=run)

    for seed, draw in enumerate(draws):
        file = tmp_path / "run" / "decisions" / f"seed-{seed}" / "category-expert.jsonl"
        lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        assert [line["query_id"] for line in lines] == ids(draw.judged)
        assert [[line["strong"], line["weak"]] for line in lines] == draw.judged.score.tolist()
        assert len({line["preference"] for line in lines}) == 3
