"""Server-sent events, from bytes as they arrive."""

from __future__ import annotations

import re

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class SseParser:
    """Finds the data of events in a stream of bytes, however it is cut into chunks.

    Only data is kept: chat completions use neither event names, nor ids, nor retry times. An event
    that no blank line ends is never given out, for the stream broke within it.

    Source: WHATWG HTML, section 9.2.6, "Interpreting an event stream".
    """

    def __init__(self) -> None:
        self._unfinished_line = b""
        self._has_carriage_return = False
        self._is_first_line = True
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[str]:
        """Take in the next bytes and return the data of the events they complete."""
        if not chunk:
            return []
        # A "\r\n" that is cut in two is one end of line, not two.
        rest = chunk[1:] if self._has_carriage_return and chunk[:1] == b"\n" else chunk
        self._has_carriage_return = chunk[-1:] == b"\r"
        *lines, self._unfinished_line = _LINE_END.split(self._unfinished_line + rest)
        return [data for line in lines if (data := self._take(line)) is not None]

    def _take(self, line: bytes) -> str | None:
        if self._is_first_line:
            line = line.removeprefix(_BYTE_ORDER_MARK)
            self._is_first_line = False
        if not line:
            return self._end_event()
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data.append(value.removeprefix(b" ").decode(errors="replace"))
        return None

    def _end_event(self) -> str | None:
        if not self._data:
            return None
        data = "\n".join(self._data)
        self._data.clear()
        return data
