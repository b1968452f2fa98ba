"""Errors a caller may meet.

    ComposerError                 expected: the CLI prints one line and exits with 1
      x ConfigError               experts.yaml, an option or an extra is wrong (fix it)
      x RoutingError              no expert can take the query
      x ExpertError               one expert failed; .expert, .reason (recoverable: others go on)
        + ExpertTimeout           it did not answer before its deadline
        + ExpertUnavailable       it could not be loaded, or it is gone
      x AggregationError          nothing usable to merge

They cross process borders, so every argument goes to `Exception.__init__` (which is what pickle
replays) and the message is made in `__str__`.
"""


class ComposerError(Exception):
    """Base of all expected errors; its text is one line for a person to read."""


class ConfigError(ComposerError):
    """The configuration, an option or an installation is wrong. Unrecoverable until mended."""


class RoutingError(ComposerError):
    """No expert can take the query."""


class ExpertError(ComposerError):
    """One expert failed. Recoverable: other experts go on."""

    def __init__(self, expert: str, reason: str) -> None:
        super().__init__(expert, reason)
        self.expert = expert
        self.reason = reason

    def __str__(self) -> str:
        return f"expert {self.expert!r}: {self.reason}"


class ExpertTimeout(ExpertError):
    """An expert did not answer before its deadline. Recoverable."""


class ExpertUnavailable(ExpertError):
    """An expert could not be loaded, or its process or endpoint is gone. Recoverable."""


class AggregationError(ComposerError):
    """No expert gave anything that could be merged; the message names each failure."""
