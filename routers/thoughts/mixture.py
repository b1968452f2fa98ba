"""The router of a group, trained together with the interaction of its experts.

    embedding -- small MLP --> logits --> the largest of those that may write, and the others

Source: Mixture of Thoughts (arXiv 2509.21164), see `composer.latent.joint`. Trained by
`composer latent fit --router`, which saves it into the folder of the group.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from composer.errors import ConfigError
from composer.latent.routing import ThoughtRouter, embedded
from composer.types import Evidence, Scores
from routers.artefact import load_artefact, save_artefact
from routers.thoughts.model import read_network

if TYPE_CHECKING:
    from composer.outcomes import OutcomeTable
    from composer.protocols import Encoder, RouterNeed
    from composer.types import Annotation, Query

KIND = "mixture"
PROBE = "Whose words are these?"
"""A text by whose embedding an encoder is known again."""
SAME = 0.99
"""Cosine of a text's embeddings by one encoder, on whatever machine: at least so much."""


class MixtureRouter:
    """Scores experts of a group as its training left the router.

    No outcomes were recorded, so qualities are no probabilities of being right: half of an expert's
    quality is its share of the routing, and the other half is given to the one that writes, which
    thereby comes first.
    """

    def __init__(
        self,
        network: ThoughtRouter,
        experts: Sequence[str],
        writers: Sequence[int],
        k: int,
        encoder: Encoder,
    ) -> None:
        """Store them.

        Args:
            network: Trained.
            experts: Names, in the network's order.
            writers: Numbers of those that may write.
            k: Experts that took part at a time in training.
            encoder: That it was trained with.
        """
        self.name = KIND
        self.needs: frozenset[RouterNeed] = frozenset()
        self.experts = tuple(experts)
        self.network = network
        self._writers = tuple(writers)
        self._k = k
        self._encoder = encoder

    @property
    def settings(self) -> dict[str, Any]:
        """What it was trained with."""
        return {"k": self._k, "primaries": [self.experts[number] for number in self._writers]}

    def fit(self, table: OutcomeTable) -> Self:
        """It learns from what experts write, and from no recorded outcomes.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError(
            f"router {self.name!r} is trained with its group, by `composer latent fit --router`, "
            "and not on recorded outcomes; fit 'thoughts' on these"
        )

    def annotate(self, query: Query) -> None:
        """None: the query's text is enough."""

    def score(self, queries: Sequence[Query], annotations: Sequence[Annotation | None]) -> Scores:
        """See `Router.score`."""
        with torch.inference_mode():
            routing = self.network.choose(
                embedded(self._encoder, [query.text for query in queries]), 1, writers=self._writers
            )
            shares = routing.logits.softmax(dim=1)
            quality = (0.5 * (shares + routing.writing)).numpy()

        def why(query: int, expert: int) -> Evidence:
            share, writes = float(shares[query, expert]), bool(routing.writing[query, expert])
            said = f"{share:.0%} of the routing" + (", and writes" if writes else "")
            return Evidence(said, {"share": share, "writes": writes})

        return Scores(self.experts, quality.astype(np.float32), why)

    def save(self, folder: Path) -> None:
        """Write it, beside what else the folder holds of its group."""
        meta = {
            "network": self.network.described(),
            "experts": list(self.experts),
            "writers": list(self._writers),
            "k": self._k,
        }
        arrays = {name: t.detach().cpu().numpy() for name, t in self.network.state_dict().items()}
        probe = self._encoder.encode([PROBE])[0]
        save_artefact(folder, KIND, meta, {**arrays, "probe": probe})


def load_mixture(folder: Path, encoder: Encoder) -> MixtureRouter:
    """What `MixtureRouter.save` wrote.

    Raises:
        ConfigError: There is none, it is not whole, or the encoder is another one.
    """
    meta, arrays = load_artefact(folder, KIND)
    try:
        experts, writers = list(meta["experts"]), list(meta["writers"])
        network, probe = read_network(meta["network"], arrays), arrays["probe"]
        if network.experts != len(experts) or not set(writers) <= set(range(len(experts))):
            raise ValueError(f"writers {writers} of experts {experts}")
        router = MixtureRouter(network, experts, writers, meta["k"], encoder)
    except (KeyError, ValueError, TypeError) as exc:
        raise ConfigError(
            f"{folder}: is no router that this program can read ({exc!r}); "
            "fit its group anew with `composer latent fit --router`"
        ) from exc
    anew = encoder.encode([PROBE])[0]
    if anew.shape != probe.shape or float(anew @ probe) < SAME:
        raise ConfigError(
            f"{folder}: was trained with another encoder; name that one, or fit it again"
        )
    return router
