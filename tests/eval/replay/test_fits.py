from __future__ import annotations

from typing import TYPE_CHECKING

from eval.replay.fits import Fits
from eval.replay.parts import make_parts
from routers.baselines import PriorRouter

if TYPE_CHECKING:
    from composer.outcomes import OutcomeTable
    from tests.eval.replay.conftest import MakeTable


class Maker:
    """Fits routers and counts them."""

    def __init__(self) -> None:
        self.n = 0

    def __call__(self, train: OutcomeTable) -> PriorRouter:
        self.n += 1
        return PriorRouter().fit(train)


def test_a_router_is_fitted_once_on_a_table(graded: OutcomeTable):
    fits, make = Fits(), Maker()

    first, again = (fits.fit("prior", make, graded) for _ in range(2))

    assert first is again
    assert make.n == 1


def test_another_table_and_another_router_are_fits_of_their_own(graded: OutcomeTable):
    fits, make = Fits(), Maker()

    fits.fit("prior", make, graded)
    fits.fit("prior", make, graded.split("train"))
    fits.fit("prior[of=another]", make, graded)

    assert make.n == 3


def test_parts_that_are_judged_after_one_fit_share_it(make_table: MakeTable):
    fits, make = Fits(), Maker()
    parts = make_parts(make_table("train law 1 0", "test law 1 0", "ood law 0 1"))

    for part in parts:
        for each in part.rounds:
            fits.fit("prior", make, each.train)

    assert len(parts) > 1
    assert make.n == 1
