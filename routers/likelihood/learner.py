"""Routes by how likely each expert finds the query's text: the domain posterior of an ensemble.

    nats_ij = bytes_i * (nats a byte of query i under expert j - those typical of expert j)
    raw_ij  = log(m * posterior_ij),   posterior_ij = prior_j exp(-tau nats_ij) / sum over experts

over the m experts that scored the query: 0 is chance.

Source: Branch-Train-Merge, arXiv 2208.03306, code github.com/hadasah/btm at 529b0f1, which mixes
experts by Bayes' rule: the posterior of a domain, given a text, is that of the expert trained on
it. The temperature is chosen as in arXiv 1706.04599: for the least cross-entropy.

Deviations:
- There the posterior, given the text so far, weighs distributions of the next token over one
  vocabulary. Here it is that of the whole query, for experts of any vocabularies: by the byte.
- There the likelihood counts in full. Here it is tempered: the tokens of a text are far from being
  as many independent witnesses, and untempered one expert is all but certain.
- There all experts grew from one seed model. Here some, larger ones or base models, find any text
  likelier, which tells nothing of a query: `baseline: mean` takes an expert's mean away.
- There the cached prior is an exponential moving average over development blocks. Here it is the
  mean posterior over the training queries, smoothed by one query: their order must not matter.
- There all but the k experts of the highest prior are left out. Here no expert is: that is choice.
- A calibration has offsets and a scale of its own. So once calibrated the prior hardly matters, and
  tau only by where the posterior is all but one expert's, whatever more is said for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from composer.errors import ConfigError
from composer.types import Evidence
from routers.learning import Lesson, cross_fit
from routers.likelihood.annotator import likelihood_failures, nats_per_byte, score_text
from routers.settings import check_choice, check_number
from routers.shortened import shortened

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.protocols import Flow, RouterNeed
    from composer.types import Annotation, Float32Array, Query
    from routers.learning import Arrays, Batch, Training

    Float64Array = NDArray[np.float64]

Prior = Literal["uniform", "cached"]
Baseline = Literal["mean", "none"]
TAUS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""To choose from; of equally good ones the strongest tempering."""
_NAME = "likelihood"


class LikelihoodLearner:
    """Scores an expert by the tempered posterior that the query is of its domain.

    An expert that did not score the query is unknown (NaN). Every query costs one prefill of its
    text by every expert before it is routed, so all of them are loaded: worth it where the experts
    are resident, or in bulk. Likelihood is not ability: the shell calibrates it.

    Args:
        tau: How much of the log-likelihood counts, 0 to 1; None: chosen on the training.
        prior: Of the experts: `uniform`, or `cached`: their mean posterior on the training.
        baseline: Nats a byte typical of an expert: its `mean` on the training, or `none`.

    Raises:
        ConfigError: A setting is none of its choices, or out of its range.
    """

    name = _NAME
    needs: frozenset[RouterNeed] = frozenset({"likelihoods"})

    def __init__(
        self, *, tau: float | None = None, prior: Prior = "uniform", baseline: Baseline = "mean"
    ) -> None:
        check_number(_NAME, "tau", tau, most=1, optional=True)
        check_choice(_NAME, "prior", prior, get_args(Prior))
        check_choice(_NAME, "baseline", baseline, get_args(Baseline))
        self._tau = tau
        self._prior: Prior = prior
        self._baseline: Baseline = baseline

    @property
    def given(self) -> dict[str, Any]:
        """See `Learner.given`."""
        return {"tau": self._tau, "prior": self._prior, "baseline": self._baseline}

    def fit(self, training: Training) -> Lesson:
        """See `Learner.fit`.

        Raises:
            ConfigError: No expert's likelihood of a query is recorded.
        """
        if np.isnan(_rates(training.batch, training.names)).all():
            raise ConfigError(
                f"router {_NAME!r}: no likelihood of a query is recorded; "
                "profile with --annotate likelihood"
            )
        return Lesson(self._learn(training), *cross_fit(self._learn, training))

    def restore(self, meta: Mapping[str, Any], arrays: Arrays) -> LikelihoodModel:
        """See `Learner.restore`."""
        return LikelihoodModel(
            tuple(meta["experts"]),
            meta["tau"],
            meta["prior"],
            meta["baseline"],
            arrays["log_prior"],
            arrays["typical"],
        )

    def annotate(self, query: Query, experts: Sequence[str]) -> Flow[Annotation] | None:
        """See `Learner.annotate`. An empty query is not scored."""
        return score_text(query, experts) if query.text else None

    def _learn(self, training: Training) -> LikelihoodModel:
        tau = self._choose_tau(training) if self._tau is None else self._tau
        typical = self._typical(_rates(training.batch, training.names), training.weights)
        m = len(training.names)
        log_prior = np.full(m, -math.log(m))
        model = LikelihoodModel(
            training.names, tau, self._prior, self._baseline, log_prior, typical
        )
        if self._prior == "uniform":
            return model
        posterior = np.exp(_log_softmax(model.joint(training.batch)))
        sums, weight = _weighted_sums(posterior, training.weights)
        cached = (sums + 1 / m) / (weight + 1)
        return replace(model, log_prior=np.log(cached / cached.sum()))

    def _typical(self, rates: Float64Array, weights: Float64Array) -> Float64Array:
        """What is taken away of each expert's nats a byte, [m]; NaN: it scored nothing."""
        if self._baseline == "none":
            return np.zeros(len(rates.T))
        sums, weight = _weighted_sums(rates, weights)
        weight[weight == 0] = np.nan
        return sums / weight

    def _choose_tau(self, training: Training) -> float:
        """The tau of least cross-entropy with the experts' shares of the successes, held out.

        Their mean shares are the prior here, as the calibration's offsets are later.
        """
        rates = _rates(training.batch, training.names)
        score = np.where(np.isnan(rates), np.nan, training.score)
        successes = np.nansum(score, axis=1, keepdims=True)
        shares = np.divide(score, successes, out=np.full_like(score, np.nan), where=successes > 0)
        n_bytes, weights = _count_bytes(training.batch)[:, None], training.weights
        errors = dict.fromkeys(TAUS, 0.0)
        for fold in np.unique(training.folds):
            held = training.folds == fold
            sums, weight = _weighted_sums(shares[~held], weights[~held])
            prior = np.log((sums + 1 / len(sums)) / (weight + 1))
            typical = self._typical(rates[~held], weights[~held])
            nats = n_bytes[held] * (rates[held] - typical)
            for tau in TAUS:
                log_p = _log_softmax(np.where(np.isnan(shares[held]), np.nan, prior - tau * nats))
                errors[tau] -= float(np.nansum(weights[held][:, None] * shares[held] * log_p))
        return min(TAUS, key=lambda tau: errors[tau])


@dataclass(frozen=True, eq=False)
class LikelihoodModel:
    """The posterior of m experts."""

    experts: tuple[str, ...]
    tau: float
    prior: Prior
    baseline: Baseline
    log_prior: Float64Array
    """[m]."""
    typical: Float64Array
    """Nats a byte, [m]; NaN: the expert scored nothing."""

    @property
    def settings(self) -> dict[str, Any]:
        """See `Model.settings`."""
        return {"tau": self.tau, "prior": self.prior, "baseline": self.baseline}

    def predict(self, batch: Batch) -> Float32Array:
        """See `Model.predict`."""
        joint = self.joint(batch)
        n_known = np.maximum((~np.isnan(joint)).sum(axis=1, keepdims=True), 1)
        return (_log_softmax(joint) + np.log(n_known)).astype(np.float32)

    def why(self, batch: Batch, row: int, column: int) -> Evidence:
        """See `Model.why`."""
        name, query = self.experts[column], batch.rows(np.array([row]))
        raw = float(self.predict(query)[0, column])
        if math.isnan(raw):
            failures = likelihood_failures(query.annotations[0])
            reason = shortened(failures.get(name, "none is recorded"), 160)
            return Evidence(f"no likelihood of the query by {name!r}: {reason}")
        n_bytes, typical = int(_count_bytes(query)[0]), float(self.typical[column])
        rate = float(_rates(query, self.experts)[0, column])
        prior, joint = float(self.log_prior[column]), float(self.joint(query)[0, column])
        posterior = float(np.exp(_log_softmax(self.joint(query)))[0, column])
        beside = "" if self.baseline == "none" else f" ({typical:.2f} typical)"
        return Evidence(
            f"{rate:.2f} nats a byte{beside} over {n_bytes} bytes: posterior {posterior:.2f}",
            {
                "nats_per_byte": rate,
                "typical": typical,
                "bytes": n_bytes,
                "posterior": posterior,
                "parts": {"prior": prior, "likelihood": joint - prior, "all experts": raw - joint},
            },
        )

    def without(self, column: int) -> LikelihoodModel:
        """See `Model.without`. What is left adds up to 1 again: gaps between experts stay."""
        return replace(
            self,
            experts=self.experts[:column] + self.experts[column + 1 :],
            log_prior=np.delete(self.log_prior, column),
            typical=np.delete(self.typical, column),
        )

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """See `Model.state`."""
        meta = {**self.settings, "experts": list(self.experts)}
        return meta, {"log_prior": self.log_prior, "typical": self.typical}

    def joint(self, batch: Batch) -> Float64Array:
        """Log of the prior times the tempered likelihood, [n, m]; NaN: unknown."""
        nats = _count_bytes(batch)[:, None] * (_rates(batch, self.experts) - self.typical)
        return self.log_prior - self.tau * nats


def _rates(batch: Batch, experts: Sequence[str]) -> Float64Array:
    """Nats a byte as recorded, [n, m]; NaN: unknown."""
    rows = [[of.get(e, np.nan) for e in experts] for of in map(nats_per_byte, batch.annotations)]
    return np.array(rows, np.float64).reshape(len(batch), len(experts))


def _count_bytes(batch: Batch) -> Float64Array:
    """[n], of the texts in UTF-8."""
    return np.array([len(text.encode()) for text in batch.texts], np.float64)


def _weighted_sums(
    values: Float64Array, weights: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """Sums of weighted values down the rows [m], and of the weights of those known [m]."""
    known = ~np.isnan(values)
    column = weights[:, None]
    return (column * np.where(known, values, 0)).sum(axis=0), (column * known).sum(axis=0)


def _log_softmax(x: Float64Array) -> Float64Array:
    """Along the rows of [n, m]; NaN stays, and counts for nothing."""
    top = np.where(np.isnan(x), -np.inf, x).max(axis=1, keepdims=True)
    shifted = x - np.where(np.isfinite(top), top, 0)
    total = np.nansum(np.exp(shifted), axis=1, keepdims=True)
    return shifted - np.log(np.where(total > 0, total, 1))
