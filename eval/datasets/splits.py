"""Which split a query belongs to: what a file's name says, else a hash of the query's id."""

from __future__ import annotations

import hashlib
import re

NAMED = re.compile(r"(?:^|[-_.])(train|test|ood)(?=$|[-_.])")


def split_in(stem: str) -> tuple[str | None, str | None]:
    """A file's name without its split, and the split; None: there is none.

    `gsm8k-train` is (`gsm8k`, `train`), `mbpp` is (`mbpp`, None), `test` is (None, `test`).
    """
    found = NAMED.search(stem)
    if found is None:
        return stem, None
    return (stem[: found.start()] + stem[found.end() :]).strip("-_.") or None, found[1]


def hashed_split(query_id: str, test_share: float) -> str:
    """`test` for that share of all ids, by their SHA-1; `train` for the others."""
    digest = hashlib.sha1(query_id.encode(), usedforsecurity=False).digest()
    return "test" if int.from_bytes(digest[:8]) < test_share * 2**64 else "train"
