"""What routing costs: the encoder, the search, one query, and batches; beside semantic-router."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from composer.backends.sources import cache_dir
from composer.choose import choose
from composer.experts import ChooseRule
from composer.outcomes import RecordedExpert
from composer.types import Message, Query
from eval.bench.peer import PEER, Peer, peer_python
from eval.bench.result import BenchResult, load_average, median, note
from routers.calibration import Calibration
from routers.encoder import SentenceEncoder
from routers.explained import Fitted
from routers.fitted import OutcomeRouter
from routers.index import FlatIndex
from routers.kernel import Kernel
from routers.learning import Batch, Training
from routers.neighbours.learner import NeighboursLearner
from routers.neighbours.model import NeighboursModel

if TYPE_CHECKING:
    from composer.types import Float32Array

SIZES = (1_000, 10_000, 100_000)
PEER_SIZE = 10_000
DIMENSION, EXPERTS, BATCH, K = 384, 8, 256, 40
QUERIES, ROUNDS, BATCHES = 50, 5, 3


class StoredEncoder:
    """Gives vectors made before, by the number that a text is: what a cache of embeddings does."""

    dimension = DIMENSION

    def __init__(self, vectors: Float32Array) -> None:
        self._vectors = vectors

    def encode(self, texts: Sequence[str]) -> Float32Array:
        """See `Encoder.encode`."""
        return self._vectors[[int(text) for text in texts]]


def bench_route() -> BenchResult:
    """Milliseconds to encode, to search and to route one query; queries/s in batches."""
    before = load_average()
    asked = _unit_vectors(BATCH, seed=1)
    figures = {"encode_ms_p50": _encode_ms()}
    note(f"encode: {figures['encode_ms_p50']:.2f} ms")
    python = peer_python(cache_dir())
    for size in SIZES:
        recorded = _unit_vectors(size, seed=0)
        index, router = FlatIndex(recorded), make_router(recorded, asked)
        search: list[float] = []
        route: list[float] = []
        batch: list[float] = []
        theirs: list[float] = []
        with TemporaryDirectory() as folder:
            peer = None
            if size == PEER_SIZE and python is not None:
                peer = Peer(python, Path(folder), recorded, asked[:QUERIES], K)
            for _ in range(ROUNDS):
                search += _each_ms(lambda i, at=index: at.top_k(asked[i : i + 1], K), QUERIES)
                route += _each_ms(lambda i, of=router: route_one(of, i), QUERIES)
                if peer is not None:
                    theirs += peer.round()
            if peer is not None:
                peer.close()
        for _ in range(BATCHES):
            started_s = time.perf_counter()
            route_batch(router)
            batch.append(BATCH / (time.perf_counter() - started_s))
        figures |= {
            f"search_ms_p50_{size}": median(search),
            f"route_ms_p50_{size}": median(route),
            f"batch_per_s_{size}": median(batch),
        }
        if theirs:
            figures[f"peer_search_ms_p50_{size}"] = median(theirs)
            figures[f"peer_ratio_{size}"] = median(theirs) / median(search)
        note(f"{size} recorded queries: search {median(search):.2f} ms, route {median(route):.2f}")
    settings = {
        "vectors": f"{DIMENSION} random numbers each, unit norm; {EXPERTS} experts",
        "route": f"neighbours, k = {K}, and the choice of one expert, its evidence not asked for; "
        "the query's embedding is there already",
        "search": f"the {K} nearest, in FAISS, one thread",
        "batch": f"{BATCH} queries at once, their embeddings there already",
        "encode": "all-MiniLM-L6-v2, one question of 12 words, one thread",
        "peer": PEER if python is not None else f"{PEER} could not be installed: not run",
        "rounds": ROUNDS,
        "queries": QUERIES,
        "load_average": [before, load_average()],
    }
    return BenchResult("route", figures, settings)


def make_router(recorded: Float32Array, asked: Float32Array) -> OutcomeRouter:
    """A neighbours router over recorded queries, as if it were fitted; it is asked `asked`."""
    n = len(recorded)
    names = tuple(map(str, range(n)))
    batch = Batch(names, names, recorded, recorded, (None,) * n, (None,) * n)
    experts = tuple(RecordedExpert(f"expert{number}") for number in range(EXPERTS))
    score = (np.random.default_rng(2).random((n, EXPERTS)) < 0.5).astype(np.float32)
    training = Training(batch, experts, score, np.zeros(n, np.int64))
    kernel = Kernel(K, 0.1, 2.0)
    model = NeighboursModel(
        training.names, names, recorded, score, training.prior, kernel, "scores"
    )
    calibration = Calibration(1.0, np.zeros(EXPERTS))
    router = OutcomeRouter(NeighboursLearner(), StoredEncoder(asked), lexical_share=0)
    router.fitted = Fitted(training, model, calibration, calibration, {})
    return router


def route_one(router: OutcomeRouter, number: int) -> None:
    """Score and choose for one query."""
    _route(router, range(number, number + 1))


def route_batch(router: OutcomeRouter) -> None:
    """Score and choose for a batch."""
    _route(router, range(BATCH))


def _route(router: OutcomeRouter, numbers: range) -> None:
    queries = [Query(f"q{number}", (Message("user", str(number)),)) for number in numbers]
    scores = router.score(queries, [None] * len(queries))
    choose(scores, [query.id for query in queries], ChooseRule(), router=router.name)


def _encode_ms() -> float:
    encoder = SentenceEncoder()
    encoder.encode(["warm up"])
    words = "how many litres of water fit in a round tank of size {}?"
    return median(_each_ms(lambda i: encoder.encode([words.format(i)]), QUERIES))


def _each_ms(run: Callable[[int], object], n: int) -> list[float]:
    taken: list[float] = []
    for number in range(n):
        started_s = time.perf_counter()
        run(number)
        taken.append(1000 * (time.perf_counter() - started_s))
    return taken


def _unit_vectors(n: int, *, seed: int) -> Float32Array:
    vectors = np.random.default_rng(seed).standard_normal((n, DIMENSION)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
