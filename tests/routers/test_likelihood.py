from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import ConfigError
from composer.flow import FlowRun
from composer.types import (
    Annotation,
    Completion,
    Failure,
    Message,
    Outcome,
    Query,
    Request,
    Sample,
    TokenLogprob,
)
from routers.learning import Batch, Training
from routers.likelihood.annotator import BEFORE
from routers.likelihood.learner import TAUS, Baseline, LikelihoodLearner, LikelihoodModel, Prior

if TYPE_CHECKING:
    from composer.types import Float32Array

MakeTraining = Callable[..., Training]
NAMES = ("ada", "bo", "cy")


def likelihoods(rates: Mapping[str, float], **failures: str) -> Annotation:
    return Annotation({"nats_per_byte": rates, "failures": failures})


def batch(*rows: tuple[str, Annotation | None]) -> Batch:
    nothing = np.zeros((len(rows), 1), np.float32)
    texts, annotations = zip(*rows, strict=True)
    ids = tuple(f"q{row}" for row in range(len(rows)))
    return Batch(ids, texts, nothing, nothing, (None,) * len(rows), annotations)


def model(
    *, tau: float = 0.1, prior: Sequence[float] = (0.5, 0.25, 0.25), typical: Sequence[float] = ()
) -> LikelihoodModel:
    baseline = "mean" if typical else "none"
    typical = typical or (0.0,) * len(prior)
    log_prior = np.log(prior)
    return LikelihoodModel(NAMES, tau, "cached", baseline, log_prior, np.array(typical))


def annotated(
    training: Training, rate: Callable[[int, str], float | None] | None = None
) -> Training:
    """An expert finds texts of its subject, which is every third row, likelier a byte."""

    def own(row: int, name: str) -> float | None:
        return 0.7 if row % len(NAMES) == NAMES.index(name) else 1.0

    annotations: list[Annotation] = []
    for row in range(len(training.batch)):
        rates = {name: (rate or own)(row, name) for name in training.names}
        annotations.append(likelihoods({n: r for n, r in rates.items() if r is not None}))
    return replace(training, batch=replace(training.batch, annotations=tuple(annotations)))


def accuracy(training: Training, raw: Float32Array) -> float:
    return float(training.score[np.arange(len(raw)), raw.argmax(axis=1)].mean())


def test_the_raw_score_is_the_log_of_the_tempered_posterior_over_chance():
    rates = {"ada": 1.2, "bo": 0.8, "cy": 1.0}

    raw = model().predict(batch(("twelve bytes", likelihoods(rates))))

    odds = np.array([0.5, 0.25, 0.25]) * np.exp(-0.1 * 12 * np.array([1.2, 0.8, 1.0]))
    np.testing.assert_allclose(raw, [np.log(3 * odds / odds.sum())], rtol=1e-5)
    assert raw.dtype == np.float32


def test_a_text_is_measured_in_bytes_and_not_in_characters():
    rates = {"ada": 1.2, "bo": 0.8, "cy": 1.0}

    found = model().predict(batch(("数学数学", likelihoods(rates))))

    expected = model().predict(batch(("twelve bytes", likelihoods(rates))))
    np.testing.assert_array_equal(found, expected)


def test_what_is_typical_of_an_expert_is_taken_away():
    rates = {"ada": 1.2, "bo": 0.8, "cy": 1.0}
    less = {"ada": 0.2, "bo": 0.2, "cy": 0.9}

    found = model(typical=(1.0, 0.6, 0.1)).predict(batch(("text", likelihoods(rates))))

    np.testing.assert_allclose(
        found, model().predict(batch(("text", likelihoods(less)))), rtol=1e-5
    )


def test_an_expert_without_a_likelihood_is_unknown_and_the_others_share_the_posterior():
    some = batch(("text", likelihoods({"ada": 1.2, "cy": 1.0})), ("text", None))

    raw = model().predict(some)

    odds = np.array([0.5, 0.25]) * np.exp(-0.1 * 4 * np.array([1.2, 1.0]))
    np.testing.assert_allclose(raw[0, [0, 2]], np.log(2 * odds / odds.sum()), rtol=1e-5)
    assert np.isnan(raw).tolist() == [[False, True, False], [True, True, True]]


def test_an_expert_that_alone_has_a_likelihood_scores_as_chance():
    assert model().predict(batch(("text", likelihoods({"bo": 3.0}))))[0, 1] == 0


def test_long_unlikely_texts_have_finite_scores():
    raw = model(tau=1.0).predict(batch(("x" * 100_000, likelihoods({"ada": 9, "bo": 1, "cy": 5}))))

    assert np.isfinite(raw).all()
    assert raw[0, 1] == pytest.approx(math.log(3))


@settings(max_examples=30)
@given(
    rates=st.lists(st.none() | st.floats(0, 20), min_size=3, max_size=3),
    text=st.text(min_size=1),
    order=st.permutations(range(3)),
)
def test_posteriors_add_up_to_one_in_whatever_order_the_experts_come(
    rates: list[float | None], text: str, order: list[int]
):
    known = {n: r for n, r in zip(NAMES, rates, strict=True) if r is not None}
    asked = batch((text, likelihoods(known)))
    first = model()
    mixed = replace(first, experts=tuple(NAMES[i] for i in order), log_prior=first.log_prior[order])

    raw = first.predict(asked)

    np.testing.assert_allclose(mixed.predict(asked), raw[:, order], rtol=1e-5, atol=1e-5)
    if known:
        assert np.nansum(np.exp(raw)) / len(known) == pytest.approx(1, abs=1e-5)


def test_without_an_expert_the_rest_is_as_if_it_had_never_been():
    rates = {"ada": 1.2, "bo": 0.8, "cy": 1.0}
    whole, typical = batch(("text", likelihoods(rates))), (0.1, 0.2, 0.3)

    left = model(typical=typical).without(1)

    del rates["bo"]
    expected = model(typical=typical).predict(batch(("text", likelihoods(rates))))
    assert left.experts == ("ada", "cy")
    np.testing.assert_allclose(left.predict(whole), expected[:, [0, 2]], rtol=1e-5)


def test_evidence_adds_up_to_the_raw_score():
    asked = batch(("a", None), ("four", likelihoods({"ada": 1.2, "bo": 0.8, "cy": 1.0})))
    found = model(typical=(1.0, 0.5, 1.0))

    evidence = found.why(asked, 1, 1)

    raw = float(found.predict(asked)[1, 1])
    assert sum(evidence.details["parts"].values()) == pytest.approx(raw)
    assert evidence.details["parts"]["prior"] == pytest.approx(math.log(0.25))
    assert evidence.details["parts"]["likelihood"] == pytest.approx(-0.1 * 4 * 0.3)
    posterior = math.exp(raw) / 3
    assert evidence.details["posterior"] == pytest.approx(posterior)
    assert evidence.reason == (
        f"0.80 nats a byte (0.50 typical) over 4 bytes: posterior {posterior:.2f}"
    )


def test_evidence_without_a_baseline_names_none():
    asked = batch(("four", likelihoods({"ada": 1.2})))

    assert model().why(asked, 0, 0).reason == "1.20 nats a byte over 4 bytes: posterior 1.00"


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        (None, "none is recorded"),
        (likelihoods({"ada": 1.0}, bo="the engine\ncannot"), "the engine cannot"),
    ],
)
def test_evidence_says_why_there_is_no_likelihood(annotation: Annotation | None, reason: str):
    evidence = model().why(batch(("four", annotation)), 0, 1)

    assert evidence.reason == f"no likelihood of the query by 'bo': {reason}"


def test_held_out_likelihoods_tell_the_subjects_apart(make_lesson: MakeTraining):
    training = annotated(make_lesson())

    lesson = LikelihoodLearner().fit(training)

    assert accuracy(training, lesson.held_out) > 0.85
    np.testing.assert_array_equal(lesson.held_out_known, lesson.held_out)


def test_a_constant_difference_by_the_byte_does_not_count_unless_it_is_asked_for(
    make_lesson: MakeTraining,
):
    def rate(row: int, name: str) -> float:
        own = row % len(NAMES) == NAMES.index(name)
        return 1.0 - 0.3 * own - 0.5 * (name == "ada")

    training = annotated(make_lesson(), rate)

    by_mean = LikelihoodLearner(tau=0.1).fit(training)
    by_none = LikelihoodLearner(tau=0.1, baseline="none").fit(training)

    assert accuracy(training, by_mean.held_out) > 0.85
    assert set(by_none.held_out.argmax(axis=1)) == {0}


def test_a_row_is_scored_by_models_that_have_not_seen_its_likelihoods(make_lesson: MakeTraining):
    training = annotated(make_lesson())
    fold = training.folds == training.folds[0]
    others = LikelihoodLearner(tau=0.1).fit(training.rows(~fold)).model

    held_out = LikelihoodLearner(tau=0.1).fit(training).held_out

    expected = others.predict(training.batch.rows(fold))
    np.testing.assert_allclose(held_out[fold], expected, rtol=1e-5)


def test_tau_is_large_where_likelihoods_tell_and_small_where_they_mislead(
    make_lesson: MakeTraining,
):
    def misleading(row: int, name: str) -> float:
        return 1.0 + 0.3 * (row % len(NAMES) == NAMES.index(name))

    telling = LikelihoodLearner().fit(annotated(make_lesson())).model.settings["tau"]
    led_astray = LikelihoodLearner().fit(annotated(make_lesson(), misleading)).model.settings["tau"]

    assert led_astray == min(TAUS)
    assert telling >= 0.1


def test_where_nothing_tells_taus_apart_the_strongest_tempering_is_taken(make_lesson: MakeTraining):
    lesson = LikelihoodLearner().fit(annotated(make_lesson(), lambda row, name: 1.0))

    assert lesson.model.settings["tau"] == min(TAUS)
    np.testing.assert_allclose(lesson.held_out, 0, atol=1e-6)


def test_the_cached_prior_is_the_smoothed_mean_posterior(make_lesson: MakeTraining):
    training = annotated(make_lesson(), lambda row, name: 0.9 if name == "ada" else 1.0)
    learner = LikelihoodLearner(tau=0.1, prior="cached", baseline="none")

    found = learner.fit(training).model

    uniform = LikelihoodLearner(tau=0.1, baseline="none").fit(training).model
    posterior = np.exp(uniform.predict(training.batch)) / 3
    expected = ((posterior * training.weights[:, None]).sum(axis=0) + 1 / 3) / (
        training.weights.sum() + 1
    )
    _, arrays = found.state()
    np.testing.assert_allclose(np.exp(arrays["log_prior"]), expected, rtol=1e-5)
    assert arrays["log_prior"][0] > arrays["log_prior"][1]


@pytest.mark.parametrize("prior", get_args(Prior))
@pytest.mark.parametrize("baseline", get_args(Baseline))
@pytest.mark.parametrize("n_scored", [1, 20])
def test_an_expert_that_hardly_ever_or_never_scored_is_unknown_and_no_hindrance(
    make_lesson: MakeTraining, prior: Prior, baseline: Baseline, n_scored: int
):
    def rate(row: int, name: str) -> float | None:
        known = name == "ada" or (name == "bo" and row < n_scored)
        return 1.0 + row / 100 if known else None

    training = annotated(make_lesson(unknown=0.3), rate)

    lesson = LikelihoodLearner(prior=prior, baseline=baseline).fit(training)

    raw = lesson.model.predict(training.batch)
    assert np.isfinite(raw[:, 0]).all()
    assert np.isfinite(lesson.held_out[:, 0]).all()
    assert np.isnan(raw[n_scored:, 1]).all()
    assert np.isnan(raw[:, 2]).all()
    assert np.isnan(lesson.held_out[:, 2]).all()


def test_what_is_typical_is_the_mean_over_categories_and_unknown_of_whoever_never_scored(
    make_lesson: MakeTraining,
):
    def rate(row: int, name: str) -> float | None:
        return None if name == "cy" else 0.5 if row < 2 else 1.0

    training = annotated(make_lesson(5), rate)
    rows = np.array([0, 1, 4])
    few = training.rows(rows)

    _, arrays = LikelihoodLearner(tau=0.1).fit(few).model.state()

    assert few.batch.categories == ("maths", "law", "law")
    np.testing.assert_allclose(arrays["typical"], [0.625, 0.625, np.nan])


def test_one_fold_is_enough(make_lesson: MakeTraining):
    training = annotated(make_lesson())
    one = replace(training, folds=np.zeros_like(training.folds))

    lesson = LikelihoodLearner().fit(one)

    assert np.isfinite(lesson.model.predict(one.batch)).all()
    assert np.isnan(lesson.held_out).all()


@pytest.mark.parametrize(
    "annotation", [None, Annotation({"task": "a sum"}), likelihoods({"di": 1})]
)
def test_a_training_without_likelihoods_is_refused(
    make_lesson: MakeTraining, annotation: Annotation | None
):
    training = make_lesson()
    annotations = (annotation,) * len(training.batch)
    training = replace(training, batch=replace(training.batch, annotations=annotations))

    with pytest.raises(ConfigError) as error:
        LikelihoodLearner().fit(training)

    assert str(error.value) == (
        "router 'likelihood': no likelihood of a query is recorded; "
        "profile with --annotate likelihood"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tau": -1}, "'tau' is -1; give a number from 0 to 1, or leave it out"),
        ({"tau": 2}, "'tau' is 2; give a number from 0 to 1, or leave it out"),
        ({"prior": "flat"}, "has no prior 'flat'; choose from ['cached', 'uniform']"),
        ({"baseline": "means"}, "has no baseline 'means'; did you mean 'mean'? "),
    ],
)
def test_settings_that_are_wrong_are_refused(settings: dict[str, Any], message: str):
    with pytest.raises(ConfigError) as error:
        LikelihoodLearner(**settings)

    assert str(error.value).startswith("router 'likelihood'")
    assert message in str(error.value)


def test_settings_are_those_given_and_the_models_those_in_use(make_lesson: MakeTraining):
    learner = LikelihoodLearner(prior="cached", baseline="none")

    used = learner.fit(annotated(make_lesson())).model.settings

    assert learner.given == {"tau": None, "prior": "cached", "baseline": "none"}
    assert used == {"tau": used["tau"], "prior": "cached", "baseline": "none"}
    assert used["tau"] in TAUS
    assert LikelihoodLearner.needs == {"likelihoods"}


def test_a_model_is_restored_from_its_state():
    asked = batch(("text", likelihoods({"ada": 1.2, "bo": 0.8, "cy": 1.0})))
    saved = model(typical=(1.0, 0.5, 1.0))
    state, arrays = saved.state()

    restored = LikelihoodLearner(tau=1).restore(json.loads(json.dumps(state)), arrays)

    assert restored.settings == saved.settings
    np.testing.assert_array_equal(restored.predict(asked), saved.predict(asked))


def annotate(
    text: str, answer: Callable[[Request], Outcome]
) -> tuple[tuple[Request, ...], Annotation]:
    flow = LikelihoodLearner().annotate(Query("q", (Message("user", text),)), ["ada", "bo"])
    assert flow is not None
    run: FlowRun[Annotation] = FlowRun(flow)
    requests = run.start()
    run.deliver([answer(request) for request in requests])
    return requests, run.result


def scored(request: Request, *logprobs: float) -> Completion:
    tokens = tuple(TokenLogprob("t", logprob) for logprob in logprobs)
    return Completion(request.id, request.expert, (Sample("", "scored", 1, tokens),), 1)


def test_every_expert_is_asked_to_score_the_text_and_to_write_nothing():
    requests, annotation = annotate(
        "数学", lambda r: scored(r, *((-1.0, -2.0) if r.expert == "ada" else (-9.0,)))
    )

    assert [request.expert for request in requests] == ["ada", "bo"]
    assert {request.continuation for request in requests} == {"数学"}
    assert {request.messages for request in requests} == {BEFORE}
    assert {request.purpose for request in requests} == {"annotate"}
    assert {request.sampling.max_tokens for request in requests} == {1}
    assert annotation.values == {"nats_per_byte": {"ada": 3 / 6, "bo": 9 / 6}, "failures": {}}


def test_an_expert_that_cannot_score_is_a_failure_and_the_rest_is_kept():
    def answer(request: Request) -> Outcome:
        if request.expert == "ada":
            return Failure(request.id, request.expert, "refused", "it cannot score")
        return scored(request, -2.0)

    _, annotation = annotate("text", answer)

    assert annotation.values == {
        "nats_per_byte": {"bo": 0.5},
        "failures": {"ada": "it cannot score"},
    }


@pytest.mark.parametrize(
    "sample",
    [
        Sample("", "scored", 0, None),
        Sample("", "scored", 0, ()),
        Sample("", "scored", 1, (TokenLogprob("t", -math.inf),)),
    ],
)
def test_a_score_without_log_probabilities_is_a_failure(sample: Sample):
    _, annotation = annotate("text", lambda r: Completion(r.id, r.expert, (sample,), 1))

    assert annotation.values["nats_per_byte"] == {}
    assert set(annotation.values["failures"].values()) == {"it gave no log-probabilities"}


def test_an_empty_query_is_not_scored():
    assert LikelihoodLearner().annotate(Query("q", (Message("user", ""),)), ["ada"]) is None
