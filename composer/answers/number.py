r"""A number: what stands behind "####", in \boxed{}, behind "the answer is", or is the only one.

Canonical is a plain decimal ("-1234.5"), or a fraction in lowest terms where no decimal ends
("1/3"). Units, currencies and thousands' commas are dropped; "1.5 million" is 1500000. So is the
sign of a percentage: "42%" is 42, not 0.42, since whoever asks for a percentage takes 42 as well.
What is more than a number is none: powers, roots, ranges, dates, "3 hours and 20 minutes".
"""

from __future__ import annotations

import re
from fractions import Fraction

from composer.answers.reading import BOXED, IS, last, lines, typewritten

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d{1,2})?"
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_UNIT = r"(?:[cmk]?m|[mk]?g|m?[ls]|h|min)\b"
_PARTS = "hours?|minutes?|days?|weeks?|months?|years?|feet|foot|ft|pounds?|lbs?|dollars?|degrees?"
_NUMBER = (
    # Not inside a word, a date, a version, an exponent or a root, nor behind an operator.
    r"(?<![\w.,:^/√+-])(?<!sqrt[({])"
    r"(?:(?<!\d\s)[-+])?[$€£¥]?-?"
    rf"(?>{_DIGITS}(?:\s?/\s?{_DIGITS})?(?:[ \t](?i:{'|'.join(_SCALES)})\b)?)"
    # Not the beginning of something longer: a word, a sum, a range, a choice of two.
    rf"(?=\W|$|{_UNIT})(?![.,:/]\d|\^|[ \t]+\d|[ \t]*[-+*/\u00d7÷·][ \t]*[\d(]"
    r"|[ \t]*\b(?:or|to|and)[ \t]+[-$]?\d"
    # Nor a factor, nor the first part of "3 hours and 20 minutes".
    r"|\*\*[ \t]*\d|[ \t]*\\(?:times|cdot|div|pm|sqrt|pi|frac)\b"
    rf"|[$*]*[ \t]*(?:\\text\{{)?[ \t]*\b(?:{'|'.join(_SCALES)}|hundred|dozen)\b"
    rf"|[ \t]+(?:{_PARTS})\b(?:,|[ \t]+and)?[ \t]+\d)"
)
_TOKEN = re.compile(_NUMBER)
_MARKED_NUMBER = re.compile(rf"####\s*({_NUMBER})")
_BOXED_NUMBER = re.compile(
    rf"\s*(?:[a-zA-Z]\s*=\s*)?({_NUMBER})[\s%°]*(?:\\text\{{[^{{}}\d]*\}}|[a-zA-Z ]*)"
)
_STATED_NUMBER = re.compile(
    rf"(?i:\banswer{IS}(?:(?:about|approximately|exactly)\s+)?)"
    rf"(?:[a-zA-Z]\s*=\s*)?(?:\(\s*)?({_NUMBER})"
)
_RESULT = re.compile(rf"[=≈][\s*\\]*({_NUMBER})(?=\D*\Z)")
_ENUMERATOR = re.compile(r"^[ \t]*\d+[.)][ \t]+(?=\S)", re.MULTILINE)
_FRACTION = re.compile(r"(\d?)\\[dt]?frac\s*(?:\{\s*(-?\d+)\s*\}\s*\{\s*(\d+)\s*\}|(\d)\s*(\d))")
_CALCULATED = re.compile(r"<<[^<>]*>>")
"""GSM8K's notes for a calculator: "5 * 3 = <<5*3=15>>15"."""
_IN_LATEX = (("{,}", ","), ("\\!", ""), ("\\,", ""), ("\\$", "$"), ("\\%", "%"))
_LONGEST = 300
"""Characters of the longest number that is read or written."""


def read_number(text: str) -> str | None:
    """The number that a text gives, in canonical form; None: none, or it is not clear which."""
    text = typewritten(text)
    text = _CALCULATED.sub("", text)
    for in_latex, plain in _IN_LATEX:
        text = text.replace(in_latex, plain)
    # The space keeps "2\frac{1}{2}" from becoming 21/2.
    text = _FRACTION.sub(
        lambda m: f"{m[1]}{' ' if m[1] else ''}{m[2] or m[4]}/{m[3] or m[5]}", text
    )
    if (marked := last(_MARKED_NUMBER, text)) is not None:
        return _decimal(marked)
    if (boxed := last(BOXED, text)) is not None:
        match = _BOXED_NUMBER.fullmatch(boxed)
        return _decimal(match[1]) if match else None
    for pattern in (_STATED_NUMBER, _RESULT):
        if (token := last(pattern, text)) is not None:
            return _decimal(token)
    text = _ENUMERATOR.sub("", text)
    return _only_number(text) or _only_number((lines(text) or [""])[-1])


def _only_number(text: str) -> str | None:
    """The number of a text that has no other digits."""
    if any(character.isdigit() for character in _TOKEN.sub("", text)):
        return None
    values = {_decimal(token) for token in _TOKEN.findall(text)}
    return values.pop() if len(values) == 1 else None


def _decimal(token: str) -> str | None:
    """A number in canonical form, from the way it was written."""
    written, *scale = re.split(r"[ \t](?=[a-zA-Z])", token)
    bare = re.sub(r"[\s,+$€£¥]", "", written)
    if len(bare) > _LONGEST:
        return None
    over, _, under = bare.partition("/")
    divisor = Fraction(under or 1)
    if divisor == 0:
        return None
    value = Fraction(over) / divisor * (_SCALES[scale[0].lower()] if scale else 1)
    places = 0
    while 10**places % value.denominator and places < _LONGEST:
        places += 1
    if 10**places % value.denominator:
        written = f"{value.numerator}/{value.denominator}"
    else:
        digits = str(abs(value.numerator) * 10**places // value.denominator).zfill(places + 1)
        sign = "-" if value < 0 else ""
        written = sign + (f"{digits[:-places]}.{digits[-places:]}" if places else digits)
    return written if len(written) <= _LONGEST else None
