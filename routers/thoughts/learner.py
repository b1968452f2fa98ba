"""Learns to choose experts as the router of a mixture of thoughts does, from recorded scores.

    embedding -- small MLP --> logits -- Gumbel noise, top-K, straight-through --> reward

Source: the router of Mixture of Thoughts (arXiv 2509.21164), see `composer.latent.routing` and
`composer.latent.routing_losses` for what of it could be read.

Deviations:
- It is trained alone, on recorded scores. In the source it is trained together with the layers by
  which experts attend to one another, on the language-model loss of what the primary writes.
- Scores of all experts are recorded, so the gradient is that of the expected reward under noise;
  nothing has to be inferred from the one expert that wrote.
- By default the embedding holds words beside meaning, as that of all routers here;
  `lexical_share: 0` is a sentence encoder alone, as in the source.
- The logits of a query are centred, which changes no choice, and calibrated by the shell. They are
  trained to choose and not to predict: on sets like those that it learned from the calibration
  holds, and on others qualities are too sure of themselves (docs/routers.md).

A known category is not used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits  # pyright: ignore[reportMissingTypeStubs]

from composer.latent.routing_losses import RoutingWeights
from routers.learning import Lesson, Training, cross_fit
from routers.settings import check_number
from routers.thoughts.model import ThoughtsModel, read_model
from routers.thoughts.training import Recipe, train_router

if TYPE_CHECKING:
    from composer.protocols import RouterNeed
    from composer.types import Query
    from routers.learning import Arrays

_LEAST_TEMPERATURE = 0.05


class ThoughtsLearner:
    """Learns a routing policy on query embeddings.

    Args:
        hidden: Width of the hidden layer.
        k: Experts that are chosen for a query in training.
        entropy: Weight of even shares a query.
        balance: Weight of even loads of the experts; by default none, see docs/routers.md.
        consistency: Weight of alike choices under other noise.
        temperature: Of the softmax whose gradient choices have.
        steps: Of gradient descent, 128 queries each.
        seed: Of first weights, noise, and the order of the queries.

    Raises:
        ConfigError: A setting is out of its range.
    """

    name = "thoughts"
    needs: frozenset[RouterNeed] = frozenset()

    def __init__(
        self,
        *,
        hidden: int = 128,
        k: int = 1,
        entropy: float = 0.01,
        balance: float = 0.0,
        consistency: float = 0.01,
        temperature: float = 1.0,
        steps: int = 500,
        seed: int = 0,
    ) -> None:
        check_number(self.name, "hidden", hidden, least=1, whole=True)
        check_number(self.name, "k", k, least=1, whole=True)
        check_number(self.name, "entropy", entropy)
        check_number(self.name, "balance", balance)
        check_number(self.name, "consistency", consistency)
        check_number(self.name, "temperature", temperature, least=_LEAST_TEMPERATURE)
        check_number(self.name, "steps", steps, least=1, whole=True)
        check_number(self.name, "seed", seed, whole=True)
        self._recipe = Recipe(
            hidden=hidden,
            k=k,
            weights=RoutingWeights(entropy, balance, consistency),
            temperature=temperature,
            steps=steps,
            seed=seed,
        )

    @property
    def given(self) -> dict[str, Any]:
        """The settings; none is chosen by `fit`."""
        recipe, weights = self._recipe, self._recipe.weights
        return {
            "hidden": recipe.hidden,
            "k": recipe.k,
            "entropy": weights.entropy,
            "balance": weights.balance,
            "consistency": weights.consistency,
            "temperature": recipe.temperature,
            "steps": recipe.steps,
            "seed": recipe.seed,
        }

    def fit(self, training: Training) -> Lesson:
        """See `Learner.fit`."""
        # Threads wait by spinning, which starves whatever runs beside it.
        with threadpool_limits(1):
            return Lesson(self._train(training), *cross_fit(self._train, training))

    def restore(self, meta: Mapping[str, Any], arrays: Arrays) -> ThoughtsModel:
        """See `Learner.restore`."""
        return read_model(meta, arrays)

    def annotate(self, query: Query, experts: Sequence[str]) -> None:
        """None: the query's text is enough."""

    def _train(self, training: Training) -> ThoughtsModel:
        # By their names: weights and noise are drawn, and the experts' order must not matter.
        by_name = sorted(range(len(training.names)), key=training.names.__getitem__)
        is_known = np.asarray((~np.isnan(training.score)).any(axis=0)).tolist()
        learned = [column for column in by_name if is_known[column]]
        router = train_router(training.batch.embeddings, training.score[:, learned], self._recipe)
        columns = np.full(len(by_name), -1, np.int64)
        columns[learned] = np.arange(len(learned))
        return ThoughtsModel(self.given, router, columns)
