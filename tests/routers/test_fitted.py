from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from composer.errors import ConfigError
from composer.outcomes import OutcomeTable, RecordedExpert, RecordedQuery
from composer.protocols import RouterNeed
from composer.types import Annotation, Evidence, Message, Query, Scores
from routers.encoder import HashingEncoder
from routers.fitted import OutcomeRouter
from routers.learning import Batch, Lesson, Training

if TYPE_CHECKING:
    from composer.protocols import Flow
    from composer.types import Float32Array

NAN = math.nan
TEXTS = ["ada", "ada bo", "bo", "cy", "ada ada", "bo bo bo", "ada cy", "nobody"]
SCORE = [
    [1, 0, 0],
    [1, 1, 0],
    [0, 1, 0],
    [0, 0, 1],
    [1, 0, 1],
    [1, 1, 0],
    [0, NAN, 1],
    [0, 0, 0],
]


@dataclass(frozen=True)
class Counting:
    """Scores an expert by how often the text has its name; "unknown" makes it unknown."""

    names: tuple[str, ...]
    seen: list[Batch]

    @property
    def settings(self) -> dict[str, Any]:
        return {"colour": "blue"}

    def predict(self, batch: Batch) -> Float32Array:
        self.seen.append(batch)
        counts = [[text.split().count(name) for name in self.names] for text in batch.texts]
        raw = np.array(counts, np.float32).reshape(len(batch), len(self.names))
        raw[[text == "unknown" for text in batch.texts]] = NAN
        return raw

    def why(self, batch: Batch, row: int, column: int) -> Evidence:
        return Evidence(f"counted {self.names[column]!r}", {"own": [row, column], "raw": "mine"})

    def without(self, column: int) -> Counting:
        return replace(self, names=(*self.names[:column], *self.names[column + 1 :]))

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return {}, {}


@dataclass
class CountingLearner:
    """Learns nothing, and says of held-out rows what it is told to; keeps what it was given."""

    own_offsets: bool = False
    says_nothing_when_told: bool = False
    taught: list[Training] = field(default_factory=list[Training])
    asked: list[tuple[Query, tuple[str, ...]]] = field(
        default_factory=list[tuple[Query, tuple[str, ...]]]
    )
    scored: list[Batch] = field(default_factory=list[Batch])
    is_stubborn: bool = False
    name: str = "counting"
    needs: frozenset[RouterNeed] = frozenset({"annotations"})

    @property
    def given(self) -> dict[str, Any]:
        return {"colour": None}

    def fit(self, training: Training) -> Lesson:
        if self.is_stubborn:
            raise ConfigError("router 'counting' learns no more; let it be")
        self.taught.append(training)
        model = Counting(training.names, self.scored)
        raw = Counting(training.names, []).predict(training.batch)
        known = np.zeros_like(raw) if self.says_nothing_when_told else raw
        return Lesson(model, raw, known, self.own_offsets)

    def restore(self, meta: Mapping[str, Any], arrays: Mapping[str, Any]) -> Counting:
        raise NotImplementedError

    def annotate(self, query: Query, experts: Sequence[str]) -> Flow[Annotation] | None:
        self.asked.append((query, tuple(experts)))
        return None


def make_table(
    texts: Sequence[str] = TEXTS,
    score: Sequence[Sequence[float]] = SCORE,
    names: Sequence[str] = ("ada", "bo", "cy"),
    *,
    cost_usd: float | None = None,
) -> OutcomeTable:
    """Each query's id is of its text, so that the same text is the same query in any table.

    The first expert costs what is given, each of the others 1 more than the one before.
    """
    queries = tuple(
        RecordedQuery(f"id of {text}", text, "train", "names", annotation=Annotation({"of": text}))
        for text in texts
    )
    scores = np.array(score, np.float32).reshape(len(texts), len(names))
    cost = None
    if cost_usd is not None:
        cost = np.tile(np.arange(len(names), dtype=np.float32) + cost_usd, (len(texts), 1))
    return OutcomeTable("made", queries, tuple(map(RecordedExpert, names)), scores, cost)


@pytest.fixture
def learner() -> CountingLearner:
    return CountingLearner()


@pytest.fixture
def router(learner: CountingLearner) -> OutcomeRouter:
    """Fitted on what three experts scored on texts that have their names."""
    return make(learner).fit(make_table())


def make(learner: CountingLearner, **settings: Any) -> OutcomeRouter:
    chosen: dict[str, Any] = {"lexical_share": 0, **settings}
    return OutcomeRouter(learner, HashingEncoder(), **chosen)


def ask(router: OutcomeRouter, *texts: str, category: str | None = None) -> Scores:
    queries = [Query(text, (Message("user", text),), category) for text in texts]
    return router.score(queries, [Annotation({"of": text}) for text in texts])


def unchanged_by(router: OutcomeRouter, **refused: Any) -> None:
    """Adding the table is refused, and leaves the router as it was."""
    before = ask(router, *TEXTS)
    with pytest.raises(ConfigError, match=refused["match"]) as error:
        router.add_expert(refused["table"])
    assert "\n" not in str(error.value)
    np.testing.assert_array_equal(ask(router, *TEXTS).quality, before.quality)


def test_the_algorithm_is_taught_the_rows_sorted_by_id_with_all_that_is_recorded_of_them(
    learner: CountingLearner,
):
    make(learner).fit(make_table(cost_usd=2.0))

    (training,) = learner.taught
    batch = training.batch
    assert list(batch.ids) == sorted(f"id of {text}" for text in TEXTS)
    assert batch.texts == tuple(query_id.removeprefix("id of ") for query_id in batch.ids)
    assert set(batch.categories) == {"names"}
    assert batch.annotations == tuple(Annotation({"of": text}) for text in batch.texts)
    assert training.names == ("ada", "bo", "cy")
    assert training.cost_usd is not None
    np.testing.assert_array_equal(training.score[0], SCORE[TEXTS.index(batch.texts[0])])


def test_rows_of_which_nothing_is_known_are_not_taught(learner: CountingLearner):
    score = [*SCORE, [NAN, NAN, NAN]]

    router = make(learner).fit(make_table([*TEXTS, "ada bo cy"], score))

    assert "ada bo cy" not in learner.taught[0].batch.texts
    nearest = ask(router, "ada bo cy").why(0, 0).details["nearest"]
    assert "ada bo cy" not in [each["prompt"] for each in nearest]


@pytest.mark.parametrize("lexical_share", [0, 0.4, 1])
def test_meaning_is_the_encoders_part_of_what_queries_are_embedded_by(
    learner: CountingLearner, lexical_share: float
):
    router = make(learner, lexical_share=lexical_share).fit(make_table())
    ask(router, "ada ada cy")

    for batch in (learner.taught[0].batch, learner.scored[0]):
        norms = np.linalg.norm(np.stack([batch.embeddings[0], batch.embeddings[-1]]), axis=1)
        np.testing.assert_allclose(norms, 1, atol=1e-5)
        if lexical_share == 0:
            assert batch.semantic.shape == batch.embeddings.shape
        if lexical_share < 1:
            meaning = HashingEncoder().encode(batch.texts)
            np.testing.assert_allclose(batch.semantic, meaning, atol=1e-6)


def test_queries_are_scored_with_their_ids_categories_and_annotations(
    router: OutcomeRouter, learner: CountingLearner
):
    ask(router, "ada", "bo bo", category="names")

    (batch,) = learner.scored
    assert batch.ids == batch.texts == ("ada", "bo bo")
    assert batch.categories == ("names", "names")
    assert batch.annotations == (Annotation({"of": "ada"}), Annotation({"of": "bo bo"}))


def test_a_higher_raw_score_is_a_higher_quality(router: OutcomeRouter):
    quality = ask(router, "ada", "ada ada", "bo").quality

    assert quality[2, 0] < quality[0, 0] < quality[1, 0]
    assert ask(router, "bo cy cy").quality[0].argsort().tolist() == [0, 1, 2]


def test_an_unknown_raw_score_is_an_unknown_quality(router: OutcomeRouter):
    scores = ask(router, "ada", "unknown")

    assert np.isnan(scores.quality).tolist() == [[False] * 3, [True] * 3]
    assert scores.why(1, 0).details["raw"] is None


@pytest.mark.parametrize("own_offsets", [True, False])
def test_experts_have_offsets_of_their_own_if_the_algorithm_asks_for_them(own_offsets: bool):
    score = [[1, 0, 0]] * 4 + [[1, 0, 1]] * 4

    router = make(CountingLearner(own_offsets)).fit(make_table(score=score))

    ada, bo, cy = ask(router, "nobody").quality[0].tolist()
    assert (ada > cy > bo) == own_offsets
    assert (ada == bo == cy) == (not own_offsets)


def test_a_query_of_known_category_is_calibrated_on_rows_whose_category_was_told():
    router = make(CountingLearner(says_nothing_when_told=True)).fit(make_table())

    told, untold = (ask(router, "ada", "bo", category=c) for c in ("names", None))

    assert np.ptp(told.quality) == 0
    assert untold.quality[0, 0] > untold.quality[1, 0]
    assert told.why(0, 0).details["scale"] == 0
    assert untold.why(0, 0).details["scale"] > 0


def test_queries_of_known_and_unknown_category_can_come_in_one_batch():
    router = make(CountingLearner(says_nothing_when_told=True)).fit(make_table())
    queries = [Query(str(c), (Message("user", "ada"),), c) for c in ("names", None)]

    quality = router.score(queries, [None, None]).quality

    np.testing.assert_array_equal(quality[:1], ask(router, "ada", category="names").quality)
    np.testing.assert_array_equal(quality[1:], ask(router, "ada").quality)


def test_the_curve_is_of_the_kind_that_the_settings_name(learner: CountingLearner):
    bent = ask(make(learner, calibration="isotonic").fit(make_table()), *TEXTS)
    plain = ask(make(learner).fit(make_table()), *TEXTS)

    assert np.abs(bent.quality - plain.quality).max() > 1e-3


def test_settings_in_use_are_the_algorithms_and_the_shells(learner: CountingLearner):
    router = make(learner)
    before = router.settings

    after = router.fit(make_table()).settings

    assert before == {"colour": None, "lexical_share": 0, "calibration": "platt"}
    assert after == {**before, "colour": "blue"}


def test_the_algorithm_is_asked_for_a_flow_with_the_experts_fitted_on(
    router: OutcomeRouter, learner: CountingLearner
):
    query = Query("q", (Message("user", "who?"),))

    router.annotate(query)

    assert router.needs == learner.needs
    assert learner.asked == [(query, ("ada", "bo", "cy"))]


def test_evidence_is_the_algorithms_with_what_the_shell_knows(router: OutcomeRouter):
    evidence = ask(router, "bo", "ada ada").why(1, 0)

    assert evidence.reason == "counted 'ada'"
    assert evidence.details["own"] == [1, 0]
    assert evidence.details["raw"] == 2
    assert evidence.details["nearest"][0] == {
        "id": "id of ada ada",
        "prompt": "ada ada",
        "similarity": 1.0,
        "scores": {"ada": 1.0, "bo": 0.0, "cy": 1.0},
    }


def test_unknown_scores_of_the_nearest_queries_are_left_out(router: OutcomeRouter):
    nearest = ask(router, "ada cy").why(0, 0).details["nearest"]

    assert nearest[0]["scores"] == {"ada": 0.0, "cy": 1.0}


def test_long_prompts_of_the_nearest_queries_are_cut_whatever_the_language(
    learner: CountingLearner,
):
    texts = ["数" * 500, "two\nlines\u2028" + "x " * 500]
    router = make(learner).fit(make_table(texts, [[1], [0]], ["ada"]))

    nearest = ask(router, "数数").why(0, 0).details["nearest"]

    prompts = sorted(each["prompt"] for each in nearest)
    assert prompts[0].startswith("two lines x x ")
    assert prompts[1] == "数" * 197 + "..."
    assert len(prompts[0]) == 200


class BreakableEncoder(HashingEncoder):
    """Does not work while it is broken."""

    is_broken = False

    def encode(self, texts: Sequence[str]) -> Float32Array:
        if self.is_broken:
            raise ConfigError("encoder 'breakable' is broken; mend it")
        return super().encode(texts)


@pytest.mark.parametrize("lexical_share", [0, 0.5])
def test_a_fit_that_the_encoder_fails_leaves_what_was_learned_before(
    learner: CountingLearner, lexical_share: float
):
    encoder = BreakableEncoder()
    router = OutcomeRouter(learner, encoder, lexical_share=lexical_share).fit(make_table())
    before = ask(router, *TEXTS)

    encoder.is_broken = True
    with pytest.raises(ConfigError, match="is broken"):
        router.fit(make_table(["other", "words"], [[1], [0]], ["dee"]))
    encoder.is_broken = False

    after = ask(router, *TEXTS)
    np.testing.assert_array_equal(after.quality, before.quality)
    assert after.why(0, 0) == before.why(0, 0)


def test_a_fit_that_is_refused_leaves_what_was_learned_before(
    router: OutcomeRouter, learner: CountingLearner
):
    before = ask(router, *TEXTS)

    with pytest.raises(ConfigError, match="no outcome to learn from"):
        router.fit(make_table(score=[[NAN] * 3] * 8))
    learner.is_stubborn = True
    with pytest.raises(ConfigError, match="learns no more"):
        router.fit(make_table(["other", "words"], [[1], [0]], ["dee"]))

    after = ask(router, *TEXTS)
    np.testing.assert_array_equal(after.quality, before.quality)
    assert after.why(0, 0) == before.why(0, 0)


def test_an_added_expert_is_taught_beside_the_others_on_the_queries_that_it_answered(
    router: OutcomeRouter, learner: CountingLearner
):
    router.add_expert(make_table(["bo", "ada", "elsewhere"], [[1], [0], [1]], ["dee"]))

    training = learner.taught[-1]
    of_dee = dict(zip(training.batch.texts, training.score[:, 3].tolist(), strict=True))
    assert training.names == ("ada", "bo", "cy", "dee")
    assert {text: score for text, score in of_dee.items() if not math.isnan(score)} == {
        "bo": 1,
        "ada": 0,
    }
    np.testing.assert_array_equal(training.score[:, :3], learner.taught[0].score)
    assert ask(router, "dee").experts == ("ada", "bo", "cy", "dee")


def test_several_experts_can_be_added_at_once_and_known_ones_anew(
    router: OutcomeRouter, learner: CountingLearner
):
    router.add_expert(make_table(TEXTS, [[1, 0]] * 7 + [[0, 1]], ["dee", "ada"]))

    training = learner.taught[-1]
    assert training.names == ("bo", "cy", "dee", "ada")
    assert training.score[:, 3].sum() == 1
    assert router.summary["experts"] == ["bo", "cy", "dee", "ada"]


@pytest.mark.parametrize("was_known", [True, False])
@pytest.mark.parametrize("is_known", [True, False])
def test_costs_of_an_added_expert_are_taught_where_any_were_known(
    learner: CountingLearner, was_known: bool, is_known: bool
):
    router = make(learner).fit(make_table(cost_usd=1.0 if was_known else None))

    router.add_expert(make_table(["bo"], [[1]], ["dee"], cost_usd=3.0 if is_known else None))

    training = learner.taught[-1]
    cost = training.cost_usd
    assert (cost is not None) == was_known
    if cost is not None:
        assert (cost[:, :3] == [1, 2, 3]).all()
        of_dee = dict(zip(training.batch.texts, cost[:, 3].tolist(), strict=True))
        assert math.isnan(of_dee["ada"])
        assert (of_dee["bo"] == 3) == is_known


def test_an_expert_that_answered_none_of_the_queries_is_not_added(router: OutcomeRouter):
    unchanged_by(
        router,
        table=make_table(["elsewhere"], [[1]], ["dee"]),
        match=r"^router 'counting': \['dee'\] answered none of the queries that it was fitted on; "
        "fit it again on a table of all$",
    )


def test_a_query_of_the_same_id_and_another_prompt_is_another_query(router: OutcomeRouter):
    table = make_table(["ada", "bo"], [[1], [0]], ["dee"])
    other = tuple(replace(query, prompt="else") for query in table.queries)

    unchanged_by(router, table=replace(table, queries=other), match="answered none of the queries")


def test_an_expert_of_which_nothing_is_known_on_the_queries_is_not_added(router: OutcomeRouter):
    unchanged_by(
        router,
        table=make_table(["ada", "bo", "elsewhere"], [[NAN], [NAN], [1]], ["dee"]),
        match=r"^router 'counting': no outcome of 'dee' to learn from; leave it out$",
    )


def test_more_experts_than_queries_are_not_added(router: OutcomeRouter):
    names = [f"e{number}" for number in range(6)]

    unchanged_by(
        router,
        table=make_table(["ada", "bo"], [[1] * 6, [0] * 6], names),
        match=r"8 queries with outcomes are too few for 9 experts; record ",
    )


def test_an_expert_of_which_the_algorithm_learns_nothing_is_not_added(
    router: OutcomeRouter, learner: CountingLearner
):
    learner.is_stubborn = True

    unchanged_by(router, table=make_table(["ada"], [[1]], ["dee"]), match="learns no more")


def test_rows_that_only_a_removed_expert_answered_are_taught_again_when_it_comes_back(
    learner: CountingLearner,
):
    score = [[1, 0], [1, NAN], [0, 1], [1, NAN], [0, 1], [1, 0], [1, 1], [0, 0]]
    router = make(learner).fit(make_table(TEXTS, score, ["ada", "bo"]))
    router.remove_expert("ada")

    router.add_expert(make_table(TEXTS, [[0], [NAN]] * 4, ["cy"]))
    router.add_expert(make_table(TEXTS, [row[:1] for row in score], ["ada"]))

    first, without, last = (training.batch.texts for training in learner.taught)
    assert set(first) - set(without) == {"ada bo", "cy"}
    assert last == first
    assert router.summary["queries"] == 8


def test_a_removed_experts_outcomes_and_costs_are_gone(learner: CountingLearner):
    router = make(learner).fit(make_table(cost_usd=1.0))

    router.remove_expert("ada").add_expert(make_table(["ada"], [[1]], ["dee"]))

    training = learner.taught[-1]
    assert training.names == ("bo", "cy", "dee")
    assert training.cost_usd is not None
    assert training.cost_usd[:, :2].tolist() == [[2, 3]] * 8


def test_an_unknown_calibration_is_answered_with_the_nearest(learner: CountingLearner):
    with pytest.raises(ConfigError, match=r"^router 'counting' has no calibration 'plat'; did you"):
        make(learner, calibration="plat")
