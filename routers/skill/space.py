"""Which of the known skills a query has: by its words, by its meaning, or as an expert said.

    keywords      the strongest known terms in the text, and the terms nearest to it in meaning
    annotations   the skills an expert named; an unknown one counts as the nearest known one

Cosines are compared rounded: they differ by about 1e-6 with the batch that a text is embedded in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from routers.skill.annotator import skills_of
from routers.skill.keywords import Vocabulary, learn_vocabulary
from routers.skill.profiles import Skilled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.protocols import Encoder
    from composer.types import Float32Array
    from routers.learning import Arrays, Batch, Int64Array

    BoolArray = NDArray[np.bool_]

KEYWORD_FLOOR = 0.2
"""Of the cosine of a query and a term: below it there is no more than chance in it."""
ANNOTATION_FLOOR = 0.4
"""Of the cosine of two skills: words of one subject reach it, of two subjects hardly any."""
NEAR = "~"
"""Before a term: queries are near to it in meaning. No term begins with it."""
_STEPS = 10_000
_BLOCK = 1024


@dataclass(frozen=True, eq=False)
class SkillSpace:
    """v known skills, and how queries come by them."""

    terms: tuple[str, ...]
    embeddings: Float32Array
    """[t, s], of the terms."""
    idf: tuple[float, ...] | None
    """Of each term; None: skills come from annotations."""
    n_keywords: int
    n_nearest: int
    floor: float
    encoder: Encoder

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The skills' names [v]; of keywords first those in the text, then those near to it."""
        near = () if self.idf is None else (NEAR + term for term in self.terms)
        return (*self.terms, *near)

    def skilled(self, batch: Batch, is_known: BoolArray | None = None) -> Skilled:
        """The skills of a batch of queries.

        Args:
            batch: n queries.
            is_known: Which skills count [v]; None: all.
        """
        if is_known is None:
            is_known = np.ones(len(self.names), bool)
        if self.idf is None:
            return _padded(self._said(batch, is_known))
        in_text = [self._vocabulary.strongest(text, self.n_keywords) for text in batch.texts]
        near = self._near(self._meaning(batch), self.embeddings, self.n_nearest)
        rows = [
            [*codes, *(len(self.terms) + code for code in of_near)]
            for codes, of_near in zip(in_text, near, strict=True)
        ]
        return _padded(rows).known(is_known)

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """All that it is but the encoder, for `restore_space`."""
        meta = {
            "terms": list(self.terms),
            "idf": None if self.idf is None else list(self.idf),
            "n_keywords": self.n_keywords,
            "n_nearest": self.n_nearest,
            "floor": self.floor,
        }
        return meta, {"skill_embeddings": self.embeddings}

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return Vocabulary(self.terms, self.idf or ())

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {term: number for number, term in enumerate(self.terms)}

    def _meaning(self, batch: Batch) -> Float32Array:
        # Where words make up all of the shell's embeddings, they are no sentence model's.
        if batch.semantic.shape[1] == self.embeddings.shape[1]:
            return batch.semantic
        return self.encoder.encode(batch.texts)

    def _said(self, batch: Batch, is_known: BoolArray) -> list[list[int]]:
        """The skills that an expert said; a repeated one counts as often, as in the source."""
        said = [skills_of(annotation) for annotation in batch.annotations]
        known = {name: i for name, i in self._numbers.items() if is_known[i]}
        strange = sorted({name for names in said for name in names} - known.keys())
        codes = {name: [code] for name, code in known.items()}
        if strange and known:
            points, terms = self.encoder.encode(strange), np.flatnonzero(is_known)
            nearest = self._near(points, self.embeddings[terms], 1)
            codes |= {
                name: terms[numbers].tolist()
                for name, numbers in zip(strange, nearest, strict=True)
            }
        return [[code for name in names for code in codes.get(name, ())] for names in said]

    def _near(self, points: Float32Array, terms: Float32Array, n: int) -> list[list[int]]:
        """Numbers of the at most n terms nearest to each point, not below the floor."""
        n = min(n, len(terms))
        if n == 0:
            return [[] for _ in points]
        found: list[list[int]] = []
        for start in range(0, len(points), _BLOCK):
            steps = np.rint(points[start : start + _BLOCK] @ terms.T * _STEPS).astype(np.int64)
            # Of equal cosines the earlier term is nearer.
            keys = steps * len(terms) - np.arange(len(terms))
            nearest = np.argpartition(-keys, n - 1, axis=1)[:, :n]
            order = np.argsort(-np.take_along_axis(keys, nearest, 1), axis=1)
            nearest = np.take_along_axis(nearest, order, 1)
            is_near = np.take_along_axis(steps, nearest, 1) >= self.floor * _STEPS
            found += [row[near].tolist() for row, near in zip(nearest, is_near, strict=True)]
        return found


def learn_space(
    batch: Batch,
    encoder: Encoder,
    *,
    by_annotation: bool,
    vocabulary: int,
    n_keywords: int,
    n_nearest: int,
    floor: float | None,
) -> SkillSpace:
    """The skills that a batch of recorded queries has; no outcome is needed to say which.

    Args:
        batch: The queries.
        encoder: Embeds skills, and queries alike.
        by_annotation: Skills are those that annotations name; otherwise terms of the texts.
        vocabulary: Terms at most.
        n_keywords: A query's strongest terms that count.
        n_nearest: Terms nearest to a query in meaning that count.
        floor: Least cosine of what is near; None: what suits the way.
    """
    if by_annotation:
        terms = tuple(sorted({name for said in batch.annotations for name in skills_of(said)}))
        idf = None
        floor = ANNOTATION_FLOOR if floor is None else floor
    else:
        learned = learn_vocabulary(batch.texts, vocabulary)
        terms, idf = learned.terms, learned.idf
        floor = KEYWORD_FLOOR if floor is None else floor
    embeddings = encoder.encode(terms) if terms else np.zeros((0, encoder.dimension), np.float32)
    return SkillSpace(terms, embeddings, idf, n_keywords, n_nearest, floor, encoder)


def restore_space(meta: dict[str, Any], arrays: Arrays, encoder: Encoder) -> SkillSpace:
    """The space of which `SkillSpace.state` gave this.

    Raises:
        KeyError: It is no such state.
    """
    idf = meta["idf"]
    return SkillSpace(
        tuple(meta["terms"]),
        np.asarray(arrays["skill_embeddings"], np.float32),
        None if idf is None else tuple(idf),
        meta["n_keywords"],
        meta["n_nearest"],
        meta["floor"],
        encoder,
    )


def _padded(rows: Sequence[Sequence[int]]) -> Skilled:
    width = max(map(len, rows), default=0)
    codes: Int64Array = np.zeros((len(rows), width), np.int64)
    weights = np.zeros((len(rows), width))
    for row, numbers in enumerate(rows):
        codes[row, : len(numbers)] = numbers
        weights[row, : len(numbers)] = 1
    return Skilled(codes, weights)
