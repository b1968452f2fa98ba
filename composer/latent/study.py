"""Rows as a group studies them: who writes, and what the others make of it, kept on disk."""

# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from random import Random

from composer.errors import ConfigError
from composer.latent.examples import Lesson, as_seen, make_lesson, read_as_peer
from composer.latent.group import Group, Heard
from composer.latent.interaction import Interaction
from composer.latent.reading import Reading
from composer.latent.rows import Row
from composer.latent.states_cache import StatesCache

logger = logging.getLogger(__name__)

OnRead = Callable[[str, int, int], None]
"""Is told an expert, and of how many texts its states are there, of how many."""
Who = tuple[int, ...]
"""Numbers of experts that take part, the one that writes first."""


class Study:
    """A group, rows, and the states of all that is read of them."""

    def __init__(
        self, group: Group, rows: Sequence[Row], primaries: Sequence[str], cache: StatesCache
    ) -> None:
        """Store them.

        Args:
            group: The experts, and what is trained.
            rows: What is learned from, or judged on.
            primaries: Names of those that write where a row does not say; they take turns.
            cache: Of peers' states.

        Raises:
            ConfigError: A row or `primaries` names an expert that is not there or may not write.
        """
        self.group = group
        self.rows = tuple(rows)
        self.names = tuple(thinker.name for thinker in group.thinkers)
        self.primaries = tuple(primaries)
        self._cache = cache
        self._lessons: dict[tuple[int, int], Lesson] = {}
        self._readings: dict[tuple[int, int], Reading] = {}
        for name in self.primaries:
            self._number(name, "primaries")
        self._named = [self._who(row) for row in self.rows]

    def beside(self, interaction: Interaction) -> Study:
        """The same rows, with what was read of them, for another interaction of the experts."""
        other = copy.copy(self)
        other.group = replace(self.group, interaction=interaction)
        return other

    def prepare(self, *, batch: int = 8, on_read: OnRead = lambda name, done, total: None) -> None:
        """Read all rows, and fill the cache with what peers make of them.

        Args:
            batch: Texts that a peer reads at one time.
            on_read: Called as states get there.

        Raises:
            ConfigError: A row is too long for its primary, a template refuses one, or the cache
                cannot be written.
        """
        first = {self.names.index(name) for name in self.primaries}
        for number, named in enumerate(self._named):
            for primary in named[:1] or first:
                self.lesson(number, primary)
        for peer, thinker in enumerate(self.group.thinkers):
            texts = [
                number
                for number, named in enumerate(self._named)
                if (peer in named[1:] if named else first != {peer})
            ]
            self._read(peer, texts, batch)
            readings = [self._readings[number, peer] for number in texts]

            def tell(done: int, total: int, name: str = thinker.name) -> None:
                on_read(name, done, total)

            if readings:
                levels = self.group.settings.levels
                self._cache.fill(thinker, readings, levels, batch=batch, on_progress=tell)

    def who(self, row: int, turn: int, seed: int) -> Who:
        """Those that take part in a row.

        Args:
            row: Its number.
            turn: Whose turn it is, where the row does not say: primaries follow one another.
            seed: Of the choice among peers, where fewer than all are active.
        """
        if self._named[row]:
            return self._named[row]
        primary = self.names.index(self.primaries[turn % len(self.primaries)])
        peers = [number for number in range(len(self.names)) if number != primary]
        active = self.group.settings.active
        if active is not None and active - 1 < len(peers):
            peers = sorted(Random(f"{seed}/active/{turn}").sample(peers, active - 1))
        return (primary, *peers)

    def lesson(self, row: int, primary: int) -> Lesson:
        """A row as a primary is taught it.

        Raises:
            ConfigError: See `make_lesson`.
        """
        found = self._lessons.get((row, primary))
        if found is None:
            found = make_lesson(self.group.thinkers[primary], self.rows[row])
            self._lessons[row, primary] = found
        return found

    def heard(self, peer: int, primary: int, rows: Iterable[int]) -> Heard:
        """What a peer has to say to rows, from the cache.

        Args:
            peer: Its number.
            primary: Who attends to it.
            rows: Their numbers.

        Raises:
            ConfigError: The cache lacks something, and cannot be written.
        """
        settings, numbers = self.group.settings, list(rows)
        self._read(peer, numbers, len(numbers))
        readings = [self._readings[number, peer] for number in numbers]
        states = self._cache.states(self.group.thinkers[peer], readings, settings.levels)
        seen = [
            as_seen(reading, self.lesson(number, primary), settings)
            for number, reading in zip(numbers, readings, strict=True)
        ]
        return Heard(peer, seen, states)

    def _read(self, peer: int, rows: Sequence[int], batch: int) -> None:
        """Have a peer's readings of rows, with what it says to them by itself."""
        thinker, settings = self.group.thinkers[peer], self.group.settings
        lacking = [number for number in rows if (number, peer) not in self._readings]
        read = [read_as_peer(thinker, self.rows[number], settings) for number in lacking]
        cut = sum(reading.is_cut for reading in read)
        if cut:
            logger.warning(
                "expert %r: %d of %d prompts are longer than its context of %d tokens; "
                "it reads how they end",
                thinker.name,
                cut,
                len(read),
                thinker.context,
            )
        thought = self._cache.thoughts(thinker, read, settings.think_tokens, batch=batch)
        for number, reading in zip(lacking, thought, strict=True):
            self._readings[number, peer] = reading

    def _who(self, row: Row) -> Who:
        if not row.experts:
            return ()
        who = tuple(self._number(name, row.where) for name in row.experts)
        if len(set(who)) < 2 or len(set(who)) < len(who):
            raise ConfigError(f"{row.where}: names experts {list(row.experts)}; name two or more")
        if row.experts[0] not in self.primaries:
            raise ConfigError(
                f"{row.where}: expert {row.experts[0]!r} is not trained to write; put one of "
                f"{list(self.primaries)} first"
            )
        return who

    def _number(self, name: str, where: str) -> int:
        if name not in self.names:
            raise ConfigError(f"{where}: no expert {name!r}; choose from {list(self.names)}")
        return self.names.index(name)
