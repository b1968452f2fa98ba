"""Skills without an expert's help: the words and pairs of words that mark a text.

Their strength is the TF-IDF weight of scikit-learn's TfidfVectorizer (sublinear tf, smooth idf). It
is computed here, since a vocabulary of two lists is all that has to be learned and saved.

As in `routers.tfidf`, a Han or kana character is a word by itself: no space says where one ends.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

MIN_TEXTS = 5
"""A skill has at least so many texts: of fewer nothing reliable is learned."""
MAX_SHARE = 0.5
"""Of the texts: what is in more of them marks none."""
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")


@dataclass(frozen=True)
class Vocabulary:
    """The known terms."""

    terms: tuple[str, ...]
    idf: tuple[float, ...]
    """Of each term."""

    def strongest(self, text: str, n: int) -> list[int]:
        """Numbers of a text's n strongest known terms, that of the greatest weight first."""
        numbers = self._numbers
        counts = Counter([numbers[term] for term in _terms(text) if term in numbers])
        weights = {i: (1 + math.log(count)) * self.idf[i] for i, count in counts.items()}
        return sorted(weights, key=lambda i: (-weights[i], i))[:n]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {term: number for number, term in enumerate(self.terms)}


def learn_vocabulary(texts: Sequence[str], size: int) -> Vocabulary:
    """The `size` terms that most texts have, out of those that neither few nor most have.

    Of as few texts as `2 * MIN_TEXTS` or fewer, nothing can be in enough and yet not in too many:
    the vocabulary is empty.
    """
    n_texts = Counter[str]()
    for text in texts:
        n_texts.update(set(_terms(text)))
    most = MAX_SHARE * len(texts)
    kept = [(-n, term) for term, n in n_texts.items() if MIN_TEXTS <= n <= most]
    chosen = sorted(kept)[:size]
    idf = tuple(1 + math.log((1 + len(texts)) / (1 - minus_n)) for minus_n, _ in chosen)
    return Vocabulary(tuple(term for _, term in chosen), idf)


def _terms(text: str) -> list[str]:
    """The words and the pairs of neighbouring words of a text, case ignored."""
    words = _WORD.findall(text.lower())
    return words + [f"{first} {second}" for first, second in pairwise(words)]
