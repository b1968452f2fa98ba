from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import ConfigError
from composer.experts import Expert
from composer.types import Query
from routers.baselines import FixedRouter, RandomRouter, RoundRobinRouter

if TYPE_CHECKING:
    from composer.types import Float32Array

EXPERTS = {name: Expert(name=name, engine="scripted") for name in ("ada", "bo", "cy")}


def ask(router: FixedRouter | RandomRouter | RoundRobinRouter, *ids: str) -> Float32Array:
    return router.score([Query(i, ()) for i in ids], [None] * len(ids)).quality


def test_the_fixed_expert_comes_first_for_every_query():
    np.testing.assert_array_equal(ask(FixedRouter(EXPERTS, "bo"), "q", "r"), [[0, 1, 0]] * 2)


def test_a_fixed_expert_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match="names no known expert: 'dee'; choose from"):
        FixedRouter(EXPERTS, "dee")


@settings(deadline=None)
@given(st.lists(st.text(), min_size=1, max_size=8), st.integers())
def test_a_random_draw_depends_on_the_seed_and_the_query_id_only(ids: list[str], seed: int):
    router = RandomRouter(EXPERTS, seed)

    np.testing.assert_array_equal(ask(router, *ids), np.concatenate([ask(router, i) for i in ids]))


def test_another_seed_draws_otherwise():
    first, second = ask(RandomRouter(EXPERTS), "q"), ask(RandomRouter(EXPERTS, seed=1), "q")

    assert not np.array_equal(first, second)


def test_a_removed_expert_leaves_the_other_draws_alone():
    fewer = {name: expert for name, expert in EXPERTS.items() if name != "bo"}

    np.testing.assert_array_equal(
        ask(RandomRouter(fewer), "q"), ask(RandomRouter(EXPERTS), "q")[:, [0, 2]]
    )


def test_random_gives_each_expert_its_share_of_first_places():
    n = 3000
    firsts = ask(RandomRouter(EXPERTS), *(str(i) for i in range(n))).argmax(axis=1)

    shares = np.bincount(firsts, minlength=3) / n
    four_deviations = 4 * np.sqrt(1 / 3 * 2 / 3 / n)
    np.testing.assert_allclose(shares, 1 / 3, atol=four_deviations)


@pytest.mark.parametrize("seed", ["abc", 1.5, True])
def test_a_seed_that_is_no_whole_number_is_refused(seed: int):
    with pytest.raises(ConfigError, match="give a whole number"):
        RandomRouter(EXPERTS, seed)


def test_round_robin_goes_on_over_batches():
    router = RoundRobinRouter(EXPERTS)

    firsts = [*ask(router, "a", "b").argmax(axis=1), *ask(router, "c", "d").argmax(axis=1)]

    assert firsts == [0, 1, 2, 0]


def test_round_robin_ranks_the_next_expert_second():
    second = ask(RoundRobinRouter(EXPERTS), "a", "b")[1]

    np.testing.assert_allclose(second, [1 / 3, 1, 2 / 3], rtol=1e-6)


def test_round_robin_evidence_names_whose_turn_it_is():
    scores = RoundRobinRouter(EXPERTS).score([Query("a", ()), Query("b", ())], [None, None])

    assert scores.why(1, 0).reason == "turn 1 is 'bo''s; 'ada' comes 2 after it"
    assert scores.why(1, 0).details == {"turn": 1, "place": 2}


def test_threads_share_one_rotation():
    router = RoundRobinRouter(EXPERTS)

    with ThreadPoolExecutor(4) as threads:
        rows = list(threads.map(partial(ask, router), map(str, range(300))))

    assert np.concatenate(rows).argmax(axis=1).tolist().count(0) == 100
    np.testing.assert_allclose(np.concatenate(rows).sum(axis=0), 200, rtol=1e-5)
