"""Routes to the expert whose pilot embeddings lie nearest to the query.

Source: RouterRetriever, arXiv 2409.02685; code github.com/amy-hyunji/RouterRetriever at 0169bd4
(get_pilot_embeddings.py, test.py).

As there: the query and the pilots are embedded by one base encoder, an expert is as good as its
nearest pilot, and nothing is trained, so adding or removing an expert touches its own pilots only.

Deviations:
- There a pilot is the mean embedding of those training queries of one dataset on which the expert
  retrieves best, so every expert must first run on every query. Here pilots come from what
  experts.yaml says of the expert, its examples and its description, and no expert is run.
- There k-means with k = 1 makes one pilot of a group, which blurs a group of several topics. Here
  each text is a pilot (`pilots: each`); `pilots: mean` is one mean pilot an expert.
- There the similarity is the inner product by default, which favours long pilots. Here it is the
  cosine: a mean pilot is scaled to unit norm.
- There the experts are adapters of one retriever and only the nearest is named. Here they are
  whole models, and all of them are scored.
- There only the maximum over pilots exists in the code. Here `pool: mean` averages over them too.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from composer.errors import ConfigError, RoutingError
from composer.suggest import suggest, unknown_name
from composer.types import Evidence, Scores
from routers.index import FlatIndex

if TYPE_CHECKING:
    from composer.experts import Expert
    from composer.protocols import Encoder, RouterNeed
    from composer.types import Annotation, Float32Array, Query

Pilots = Literal["each", "mean"]
Pool = Literal["max", "mean"]


@dataclass(frozen=True, slots=True)
class _Profile:
    """An expert's texts, examples first; and once embedded, their embeddings and its pilots."""

    texts: tuple[str, ...]
    n_examples: int
    embeddings: Float32Array | None = None
    """[t, d], of the texts."""
    pilots: FlatIndex | None = None
    """What its score is the nearest of."""


class RetrievalRouter:
    """Scores an expert by the cosine of the query with the expert's pilots.

    The quality is that cosine, clipped to [0, 1]: a similarity, not calibrated as a probability of
    success. An expert with neither examples nor a description is unknown (NaN); either is enough.
    Texts are embedded when the first queries come. Experts may be added and removed while other
    threads score.

    Args:
        experts: By name; their order is that of the scores' columns.
        encoder: Embeds queries and experts' texts alike.
        pilots: `each`: one for each example and one for the description. `mean`: their mean.
        pool: How the cosines with several pilots become one score.

    Raises:
        ConfigError: `pilots` or `pool` is none of its choices.
    """

    name = "retrieval"
    needs: frozenset[RouterNeed] = frozenset({"descriptions", "examples"})

    def __init__(
        self,
        experts: Mapping[str, Expert],
        encoder: Encoder,
        *,
        pilots: Pilots = "each",
        pool: Pool = "max",
    ) -> None:
        for setting, value, kind in (("pilots", pilots, Pilots), ("pool", pool, Pool)):
            if value not in get_args(kind):
                raise ConfigError(
                    f"router 'retrieval' has no {setting} {value!r}; "
                    f"{suggest(str(value), get_args(kind))}"
                )
        self._encoder = encoder
        self._pilots = pilots
        self._pool = pool
        self._profiles = {name: _describe(expert) for name, expert in experts.items()}
        self._lock = threading.Lock()

    def add_expert(self, expert: Expert) -> None:
        """Score this expert too, in the last column, or anew in its own if its name is known."""
        with self._lock:
            self._profiles[expert.name] = _describe(expert)

    def remove_expert(self, name: str) -> None:
        """Score this expert no more.

        Raises:
            ConfigError: No expert has the name.
        """
        with self._lock:
            if name not in self._profiles:
                raise ConfigError(unknown_name("expert", name, self._profiles))
            del self._profiles[name]

    def annotate(self, query: Query) -> None:
        """None: the query's text is enough."""

    def score(self, queries: Sequence[Query], annotations: Sequence[Annotation | None]) -> Scores:
        """See `Router.score`.

        Raises:
            RoutingError: No expert has an example or a description.
        """
        with self._lock:
            profiles = self._embed_profiles()
        experts = tuple(profiles)
        if not any(profile.texts for profile in profiles.values()):
            raise RoutingError(
                f"router 'retrieval' knows nothing of {sorted(experts)}; "
                "give them examples or a description"
            )
        embedded = self._encoder.encode([query.text for query in queries])
        quality = np.full((len(queries), len(experts)), np.nan, np.float32)
        for column, profile in enumerate(profiles.values()):
            if profile.pilots is not None:
                similarities, _ = profile.pilots.top_k(embedded, 1)
                quality[:, column] = similarities[:, 0]

        def explain(query: int, expert: int) -> Evidence:
            return _explain(experts[expert], profiles[experts[expert]], embedded[query])

        return Scores(experts, np.clip(quality, 0, 1), explain)

    def _embed_profiles(self) -> dict[str, _Profile]:
        """Embed the texts of new experts, in one batch, and return a copy of all profiles."""
        new = {n: p for n, p in self._profiles.items() if p.texts and p.embeddings is None}
        if new:
            embedded = self._encoder.encode([t for p in new.values() for t in p.texts])
            ends = np.cumsum([len(p.texts) for p in new.values()])[:-1]
            for (name, profile), rows in zip(new.items(), np.split(embedded, ends), strict=True):
                pilots = FlatIndex(self._make_pilots(rows))
                self._profiles[name] = _Profile(profile.texts, profile.n_examples, rows, pilots)
        return dict(self._profiles)

    def _make_pilots(self, texts: Float32Array) -> Float32Array:
        """An expert's pilots [p, d], made of its texts [t, d]."""
        if self._pilots == "each" and self._pool == "max":
            return texts
        mean = texts.mean(axis=0, keepdims=True)
        if self._pilots == "each":
            # The mean of the cosines with unit vectors is the inner product with their mean.
            return mean
        # Opposite texts cancel out: a mean of nothing is near to nothing.
        return mean / max(float(np.linalg.norm(mean)), 1e-12)


def _describe(expert: Expert) -> _Profile:
    examples = tuple(expert.examples)
    description = (expert.description,) if expert.description.strip() else ()
    return _Profile(examples + description, len(examples))


def _explain(expert: str, profile: _Profile, query: Float32Array) -> Evidence:
    if profile.embeddings is None:
        return Evidence(f"{expert!r} has neither examples nor a description")
    cosines = profile.embeddings @ query
    nearest = int(cosines.argmax())
    kind = "example" if nearest < profile.n_examples else "description"
    text, similarity = profile.texts[nearest], float(cosines[nearest])
    return Evidence(
        f"nearest is the {kind} {shorten(text, 60, placeholder='...')!r}, cosine {similarity:.2f}",
        {"kind": kind, "text": text, "similarity": similarity},
    )
