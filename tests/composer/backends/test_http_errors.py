from __future__ import annotations

import pytest

from composer.backends.http_errors import status_error


@pytest.mark.parametrize(
    ("status", "text", "kind", "fault"),
    [
        (301, "", "refused", "request"),
        (400, '{"error": {"message": "bad seed"}}', "refused", "request"),
        (400, '{"error": {"code": "context_length_exceeded"}}', "too_long", "request"),
        (400, '{"message": "maximum context length is 8"}', "too_long", "request"),
        (401, "", "refused", "request"),
        (404, "", "refused", "request"),
        (408, "", "unavailable", "busy"),
        (413, "", "too_long", "request"),
        (422, '{"detail": "no"}', "refused", "request"),
        (429, "", "unavailable", "busy"),
        (500, "", "unavailable", "endpoint"),
        (503, "", "unavailable", "endpoint"),
    ],
)
def test_every_status_has_its_meaning(status: int, text: str, kind: str, fault: str) -> None:
    error = status_error(status, text)
    assert (error.kind, error.fault) == (kind, fault)


@pytest.mark.parametrize(
    "text",
    ['{"error": {"message": "why"}}', '{"error": "why"}', '{"detail": "why"}', "why"],
)
def test_the_servers_own_reason_is_passed_on(text: str) -> None:
    assert status_error(400, text).message == "HTTP 400: why"
