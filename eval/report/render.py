"""A page -> HTML that needs nothing beside it, and Markdown with the numbers behind the charts."""

from __future__ import annotations

import re
from html import escape

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from eval.report.page import Page

_MEANS_SOMETHING = re.compile(r"[\\`*|~$]|\b_|_\b|(?<=\])[(\[:]|(?<=!)\[|:(?=//)")
"""To Markdown, in the middle of a line: also what makes links and pictures."""
_MAY_BREAK = re.compile(r"(?<=[+,/_=:|])(?=\S)|(?<=\S)(?=[\[(])|(?<=[^\s+,/_=:|-]{24})(?=\S)")
_BREAK = Markup("<wbr>")
_NO_BREAK = "\N{NO-BREAK SPACE}"


def to_html(page: Page) -> str:
    """The page as one HTML file: no scripts, nothing to load, all texts escaped."""
    return _environment(autoescape=True).get_template("report.html.j2").render(page=page)


def to_markdown(page: Page) -> str:
    """The page as Markdown: tables for charts, all texts escaped."""
    return _environment(autoescape=False).get_template("report.md.j2").render(page=page)


def markdown_text(text: str) -> str:
    """A text that Markdown shows as it is, on one line."""
    plain = escape(" ".join(text.split()), quote=False)
    return _MEANS_SOMETHING.sub(r"\\\g<0>", plain)


def _breakable(text: str) -> Markup:
    """A text that may go on in the next line after punctuation and inside what is very long."""
    return _BREAK.join(_MAY_BREAK.split(text.replace(" %", f"{_NO_BREAK}%")))


def _unbroken(text: str) -> str:
    """A number whose interval stays on one line."""
    return text.replace(", ", f",{_NO_BREAK}")


def _environment(*, autoescape: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("eval.report"),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        svg=Markup, md=markdown_text, breakable=_breakable, unbroken=_unbroken
    )
    return environment
