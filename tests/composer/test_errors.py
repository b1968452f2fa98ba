import pickle

import pytest

from composer.errors import (
    AggregationError,
    ComposerError,
    ConfigError,
    ExpertError,
    ExpertTimeout,
    ExpertUnavailable,
    RoutingError,
)

REASON = "it is gone; start it"


@pytest.mark.parametrize(
    ("error", "parent", "text"),
    [
        (ComposerError(REASON), Exception, REASON),
        (ConfigError(REASON), ComposerError, REASON),
        (RoutingError(REASON), ComposerError, REASON),
        (AggregationError(REASON), ComposerError, REASON),
        (ExpertError("smol", REASON), ComposerError, f"expert 'smol': {REASON}"),
        (ExpertTimeout("smol", REASON), ExpertError, f"expert 'smol': {REASON}"),
        (ExpertUnavailable("smol", REASON), ExpertError, f"expert 'smol': {REASON}"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_has_its_place_in_the_tree_and_survives_pickling(
    error: ComposerError, parent: type[Exception], text: str
) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(error).__base__ is parent
    assert type(again) is type(error)
    assert str(again) == str(error) == text
    assert again.args == error.args
    assert vars(again) == vars(error)
