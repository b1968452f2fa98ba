from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from composer.aggregators import make_aggregator
from composer.composed import Composed
from composer.errors import ConfigError
from composer.experts import ChooseRule, Expert, PoolSettings, Registry
from composer.flow import FlowRun
from composer.orchestrator import Composer
from composer.outcomes import RecordedExpert
from composer.pool.pool import Pool
from composer.types import (
    Annotation,
    Completion,
    Failure,
    Message,
    Outcome,
    Query,
    Request,
    Sample,
    Scores,
)
from routers.description.annotator import INSTRUCTION
from routers.description.learner import DescriptionLearner, DescriptionModel
from routers.description.router import DescriptionRouter
from routers.encoder import HashingEncoder
from routers.learning import Batch, Training

if TYPE_CHECKING:
    from composer.types import Float32Array

MakeTraining = Callable[..., Training]
ENCODER = HashingEncoder()
EXPERTS = {
    "judge": Expert(name="judge", engine="scripted", description="law and contracts"),
    "cook": Expert(name="cook", engine="scripted", description="recipes for the oven"),
    "blank": Expert(name="blank", engine="scripted", description="  "),
}
DESCRIBED = {name: expert.description for name, expert in EXPERTS.items()}


def query(text: str) -> Query:
    return Query("q", (Message("user", text),))


def batch(*texts: str, annotations: Sequence[Annotation | None] | None = None) -> Batch:
    embedded = ENCODER.encode(texts)
    n = len(texts)
    ids = tuple(f"q{row}" for row in range(n))
    return Batch(ids, texts, embedded, embedded, (None,) * n, tuple(annotations or [None] * n))


def cosines(text: str) -> Float32Array:
    """With the descriptions of judge and cook."""
    embedded = ENCODER.encode(["law and contracts", "recipes for the oven"])
    return embedded @ ENCODER.encode([text])[0]


def model(annotator: str | None = None, alpha: float = 100) -> DescriptionModel:
    described = {name: text.strip() for name, text in DESCRIBED.items()}
    return DescriptionModel(ENCODER, described, annotator, alpha)


def described(training: Training, **descriptions: str) -> Training:
    experts = tuple(RecordedExpert(n, description=d) for n, d in descriptions.items())
    return replace(training, experts=experts)


def annotated(training: Training, *tasks: str) -> Training:
    """The first rows have these tasks."""
    annotations: list[Annotation | None] = [Annotation({"task": task}) for task in tasks]
    annotations += [None] * (len(training.batch) - len(tasks))
    return replace(training, batch=replace(training.batch, annotations=tuple(annotations)))


def run(flow: Any, answer: Callable[[Request], Outcome]) -> tuple[Request, Annotation]:
    run: FlowRun[Annotation] = FlowRun(flow)
    (request,) = run.start()
    run.deliver([answer(request)])
    return request, run.result


def says(text: str) -> Callable[[Request], Outcome]:
    return lambda r: Completion(r.id, r.expert, (Sample(text, "stop", 1),), 1)


def fails(message: str) -> Callable[[Request], Outcome]:
    return lambda r: Failure(r.id, r.expert, "timeout", message)


def test_raw_scores_are_scaled_cosines_of_the_query_with_the_descriptions():
    raw = model(alpha=10).predict(batch("a contract", "an oven"))

    np.testing.assert_allclose(
        raw[:, :2], [10 * cosines("a contract"), 10 * cosines("an oven")], rtol=1e-5
    )
    assert raw.dtype == np.float32


def test_an_expert_without_a_description_is_unknown():
    found = model()
    asked = batch("a contract")

    assert np.isnan(found.predict(asked)).tolist() == [[False, False, True]]
    assert found.why(asked, 0, 2).reason == "'blank' has no description"


def test_with_an_annotator_the_task_takes_the_place_of_the_query():
    asked = batch("Can I?", annotations=[Annotation({"task": "a contract"})])

    raw = model("smol", alpha=1).predict(asked)

    np.testing.assert_allclose(raw[0, :2], cosines("a contract"), rtol=1e-5)
    np.testing.assert_array_equal(asked.semantic, ENCODER.encode(["Can I?"]))


def test_without_an_annotator_a_recorded_task_does_not_count():
    asked = batch("an oven", annotations=[Annotation({"task": "a contract"})])

    np.testing.assert_allclose(model(alpha=1).predict(asked)[0, :2], cosines("an oven"), rtol=1e-5)


@pytest.mark.parametrize("annotation", [None, Annotation({}), Annotation({"task_failure": "ill"})])
def test_a_query_whose_task_is_not_described_falls_back_on_its_text(annotation: Annotation | None):
    tasks = [Annotation({"task": "a contract"}), annotation]

    raw = model("smol", alpha=1).predict(batch("one", "an oven", annotations=tasks))

    np.testing.assert_allclose(raw[1, :2], cosines("an oven"), rtol=1e-5)


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        (None, "nobody asked 'smol'"),
        (Annotation({"task_failure": "'smol' failed: it\nis gone"}), "'smol' failed: it is gone"),
    ],
)
def test_evidence_says_why_the_task_is_not_described(annotation: Annotation | None, reason: str):
    asked = batch("an oven", annotations=[annotation])

    evidence = model("smol").why(asked, 0, 1)

    assert evidence.reason == (
        f"its description has the cosine {cosines('an oven')[1]:.2f} with the query, "
        f"whose task is not described: {reason}"
    )


def test_evidence_shows_the_task_and_the_description():
    asked = batch("1", "2", annotations=[None, Annotation({"task": "bake in the oven"})])

    evidence = model("smol").why(asked, 1, 1)

    cosine = float(cosines("bake in the oven")[1])
    assert evidence.reason == (
        f"its description has the cosine {cosine:.2f} with the task 'bake in the oven'"
    )
    assert evidence.details == {
        "description": "recipes for the oven",
        "cosine": pytest.approx(cosine),
        "task": "bake in the oven",
    }


def test_without_an_expert_the_others_score_as_before():
    asked = batch("a contract", "an oven")

    left = model().without(0)

    assert list(left.descriptions) == ["cook", "blank"]
    np.testing.assert_array_equal(left.predict(asked), model().predict(asked)[:, 1:])


def test_fitting_takes_the_recorded_descriptions_and_holds_out_every_row(make_lesson: MakeTraining):
    training = described(make_lesson(), ada="sum", bo=" contract ", cy="")

    lesson = DescriptionLearner(ENCODER, alpha=10).fit(training)

    embedded = ENCODER.encode(["sum", "contract"])
    expected = 10 * training.batch.semantic @ embedded.T
    np.testing.assert_allclose(lesson.held_out[:, :2], expected, rtol=1e-5)
    assert np.isnan(lesson.held_out[:, 2]).all()
    np.testing.assert_array_equal(lesson.held_out_known, lesson.held_out)
    np.testing.assert_array_equal(lesson.model.predict(training.batch), lesson.held_out)


def test_fitting_with_an_annotator_learns_from_recorded_tasks(make_lesson: MakeTraining):
    training = annotated(make_lesson(), "roast a duck")

    lesson = DescriptionLearner(ENCODER, annotator="smol", alpha=1).fit(training)

    texts = [expert.description for expert in training.experts]
    expected = ENCODER.encode(texts) @ ENCODER.encode(["roast a duck"])[0]
    np.testing.assert_allclose(lesson.held_out[0], expected, rtol=1e-5)


def test_experts_of_whom_none_is_described_are_refused(make_lesson: MakeTraining):
    training = described(make_lesson(), ada="", bo=" ", cy="")

    with pytest.raises(ConfigError) as error:
        DescriptionLearner(ENCODER).fit(training)

    assert str(error.value) == (
        "router 'description': none of ['ada', 'bo', 'cy'] has a description; "
        "describe at least one expert"
    )


def test_an_annotator_without_a_recorded_task_is_refused(make_lesson: MakeTraining):
    with pytest.raises(ConfigError, match="; profile with --annotate description, or leave out"):
        DescriptionLearner(ENCODER, annotator="smol").fit(make_lesson())


def test_queries_that_another_encoder_embedded_are_refused(make_lesson: MakeTraining):
    for other in (HashingEncoder(64), Reversed()):
        with pytest.raises(ConfigError, match=r"; give a 'lexical_share' below 1$"):
            DescriptionLearner(other).fit(make_lesson())


class Reversed:
    """Embeds as the hashing encoder would the text's characters in reverse."""

    dimension = ENCODER.dimension

    def encode(self, texts: Sequence[str]) -> Float32Array:
        return ENCODER.encode([text[::-1] for text in texts])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 0}, "'alpha' is 0; give a number from 0.001 to 10000"),
        ({"alpha": "much"}, "'alpha' is 'much'; give a number from 0.001 to 10000"),
        ({"annotator": ""}, "'annotator' is ''; give an expert's name, or leave it out"),
        ({"annotator": 3}, "'annotator' is 3; give an expert's name, or leave it out"),
    ],
)
def test_settings_out_of_their_ranges_are_refused(settings: dict[str, Any], message: str):
    for make in (
        lambda: DescriptionLearner(ENCODER, **settings),
        lambda: DescriptionRouter(EXPERTS, ENCODER, **settings),
    ):
        with pytest.raises(ConfigError) as error:
            make()

        assert str(error.value) == f"router 'description': {message}"


@pytest.mark.parametrize("annotator", [None, "smol"])
def test_a_model_is_restored_from_its_state(annotator: str | None):
    asked = batch("a contract", annotations=[Annotation({"task": "an oven"})])
    state, arrays = model(annotator, alpha=3).state()

    learner = DescriptionLearner(ENCODER, annotator="other", alpha=9)
    restored = learner.restore(json.loads(json.dumps(state)), arrays)

    assert restored.settings == {"annotator": annotator, "alpha": 3}
    np.testing.assert_array_equal(restored.predict(asked), model(annotator, 3).predict(asked))


def test_needs_and_settings_tell_of_the_annotator():
    alone, with_one = DescriptionLearner(ENCODER), DescriptionLearner(ENCODER, annotator="smol")

    assert alone.needs == {"descriptions"}
    assert with_one.needs == {"descriptions", "annotations"}
    assert alone.given == {"annotator": None, "alpha": 100.0}
    assert with_one.given == {"annotator": "smol", "alpha": 100.0}


def test_the_annotator_is_asked_for_one_sentence_and_nobody_is_without_one():
    flow = DescriptionLearner(ENCODER, annotator="smol").annotate(query("Can I?"), ["judge"])

    request, annotation = run(flow, says(" A question\nof law. "))

    assert request.expert == "smol"
    assert request.purpose == "annotate"
    assert request.messages == (Message("user", f"{INSTRUCTION}\n\nText: Can I?"),)
    assert annotation.values == {"task": "A question of law."}
    assert DescriptionLearner(ENCODER).annotate(query("Can I?"), ["judge"]) is None


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (fails("it was late"), "'smol' failed: it was late"),
        (says(" \n"), "'smol' said nothing"),
    ],
)
def test_an_annotator_that_fails_leaves_its_failure(
    answer: Callable[[Request], Outcome], failure: str
):
    flow = DescriptionLearner(ENCODER, annotator="smol").annotate(query("Can I?"), [])

    _, annotation = run(flow, answer)

    assert annotation.values == {"task_failure": failure}


def ask(router: DescriptionRouter, *texts: str) -> Scores:
    queries = [query(text) for text in texts]
    return router.score(queries, [None] * len(queries))


def test_the_router_scores_by_a_softmax_over_the_described_experts():
    scores = ask(DescriptionRouter(EXPERTS, ENCODER, alpha=5), "a contract", "an oven")

    odds = np.exp(5 * np.stack([cosines("a contract"), cosines("an oven")]))
    assert scores.experts == ("judge", "cook", "blank")
    np.testing.assert_allclose(
        scores.quality[:, :2], odds / odds.sum(axis=1, keepdims=True), rtol=1e-5
    )
    assert np.isnan(scores.quality[:, 2]).all()
    assert scores.why(1, 0) == model(alpha=5).why(batch("a contract", "an oven"), 1, 0)


def test_the_sharpest_softmax_gives_all_to_the_nearest_description():
    quality = ask(DescriptionRouter(EXPERTS, ENCODER, alpha=1e4), "law and contracts").quality

    assert quality[0, :2].tolist() == [1, 0]


def test_the_router_refuses_experts_of_whom_none_is_described():
    with pytest.raises(ConfigError, match=r"none of \['blank'\] has a description; describe"):
        DescriptionRouter({"blank": EXPERTS["blank"]}, ENCODER)


def test_the_router_refuses_an_annotator_that_is_no_expert():
    with pytest.raises(ConfigError, match=r"router 'description': no expert 'juge'; did you mean"):
        DescriptionRouter(EXPERTS, ENCODER, annotator="juge")


def test_the_router_asks_nobody_without_an_annotator():
    router = DescriptionRouter(EXPERTS, ENCODER)

    assert router.annotate(query("Can I?")) is None
    assert router.needs == {"descriptions"}


async def test_a_composer_routes_by_what_the_annotator_says(tmp_path: Path):
    experts = {
        **EXPERTS,
        "smol": Expert(name="smol", engine="scripted", engine_args={"text": "recipes, the oven"}),
    }
    router = DescriptionRouter(experts, ENCODER, annotator="smol")
    composed = Composed("auto", router, ChooseRule(), make_aggregator("best", {}))
    registry = Registry(experts, {}, PoolSettings(), tmp_path / "experts.yaml")

    async with Composer(registry, {"auto": composed}, pool=Pool(registry, cache=tmp_path)) as made:
        selection = await made.route("law and contracts")

    assert selection.choices[0].expert == "cook"
    assert "with the task 'recipes, the oven'" in selection.choices[0].evidence.reason
