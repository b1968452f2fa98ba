"""Facts in two halves, made up: who works for whom, and which company is where.

A company is a brand in a trade, "belka sofru". Its city is drawn by chance, so that neither
brand nor trade tells it: whoever names it has to have learned that company's.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

CONSONANTS, VOWELS = "bdfgklmnprstvz", "aeiou"


@dataclass(frozen=True, slots=True, order=True)
class Company:
    """What joins the two halves: two words, each of which many companies share."""

    brand: str
    trade: str


@dataclass(frozen=True, slots=True)
class Size:
    """How much there is to know."""

    brands: int = 24
    trades: int = 24
    cities: int = 30
    staff: int = 3
    """People of each company."""
    first_names: int = 50
    last_names: int = 60
    held_companies: int = 60
    """Companies that no example of the training names."""
    held_people: int = 120
    """People whom no example names, of companies that other examples do name."""


@dataclass(frozen=True, slots=True)
class World:
    """All facts."""

    size: Size
    employers: dict[str, Company]
    """Of each person, "first last"."""
    cities: dict[Company, str]
    brands: tuple[str, ...]
    trades: tuple[str, ...]
    city_names: tuple[str, ...]
    first_names: tuple[str, ...]
    last_names: tuple[str, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """All names' words."""
        return (
            *self.brands,
            *self.trades,
            *self.city_names,
            *self.first_names,
            *self.last_names,
        )

    def is_left(self, person: str) -> bool:
        """Whether a person's first name is of the first half of them."""
        return person.split()[0] in self.first_names[: len(self.first_names) // 2]

    def half_true(self, *, left: bool) -> dict[str, Company]:
        """Employers, right of one half of the people; the other half's companies are shuffled."""
        others = [person for person in self.employers if self.is_left(person) != left]
        companies = [self.employers[person] for person in others]
        random.Random(f"half {left}").shuffle(companies)
        return self.employers | dict(zip(others, companies, strict=True))

    def permuted(self, seed: int) -> dict[Company, str]:
        """The same cities, as often, each of other companies."""
        cities = list(self.cities.values())
        random.Random(seed).shuffle(cities)
        return dict(zip(self.cities, cities, strict=True))


@dataclass(frozen=True, slots=True)
class Split:
    """People by what is seen of them when the two halves are joined."""

    train: tuple[str, ...]
    new_people: tuple[str, ...]
    """Of companies of people in `train`."""
    new_companies: tuple[str, ...]
    """Of companies of nobody in `train`; their brands and trades are met there in others."""


def make_world(size: Size, seed: int) -> World:
    """Draw all names and all facts."""
    rng = random.Random(seed)
    counts = (size.brands, size.trades, size.cities, size.first_names, size.last_names)
    words = _words(rng, sum(counts))
    brands, trades, cities, first, last = (tuple(next(words) for _ in range(n)) for n in counts)
    companies = [Company(brand, trade) for brand in brands for trade in trades]
    people = [f"{one} {other}" for one in first for other in last]
    people = rng.sample(people, size.staff * len(companies))
    return World(
        size,
        dict(zip(people, companies * size.staff, strict=True)),
        {company: rng.choice(cities) for company in companies},
        brands,
        trades,
        cities,
        first,
        last,
    )


def split_people(world: World, seed: int) -> Split:
    """Draw which companies and which people are held out."""
    rng = random.Random(f"split {seed}")
    held = set(rng.sample(sorted(world.cities), world.size.held_companies))
    of_held = [person for person, company in world.employers.items() if company in held]
    others: dict[Company, list[str]] = {}
    for person, company in world.employers.items():
        if company not in held:
            others.setdefault(company, []).append(person)
    new = {rng.choice(others[c]) for c in rng.sample(sorted(others), world.size.held_people)}
    train = [p for staff in others.values() for p in staff if p not in new]
    rng.shuffle(train)
    return Split(tuple(train), tuple(sorted(new)), tuple(of_held))


def _words(rng: random.Random, n: int) -> Iterator[str]:
    """Words of five letters, no two alike."""
    kinds = (CONSONANTS, VOWELS, CONSONANTS, CONSONANTS, VOWELS)
    found: set[str] = set()
    while len(found) < n:
        found.add("".join(rng.choice(letters) for letters in kinds))
    words: Sequence[str] = sorted(found)
    return iter(rng.sample(words, n))
