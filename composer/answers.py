"""Typed answers read from what an expert wrote: canonical strings, or None.

Two answers of one type are the same where their canonical strings are equal:

    choice    one letter, "A" to "J"
    number    a plain decimal ("-1234.5"); a fraction in lowest terms where no decimal ends ("1/3")
    yes_no    "yes" or "no"
    text      the whole text without case, articles and the marks around its words

A type has a few patterns, tried from the surest to the weakest; where an expert states an answer
twice the last one holds. What no pattern finds is not guessed at: a wrong vote costs more than an
abstention.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from fractions import Fraction

from composer.types import AnswerType, Sample


def extract_answer(text: str, answer_type: AnswerType) -> str | None:
    """The typed answer that a text gives, in canonical form; None: none was found.

    A canonical answer is read as itself, so references may go through here too.
    """
    return _EXTRACTORS[answer_type](text.translate(_TYPEWRITTEN))


def completion_answer(sample: Sample, answer_type: AnswerType) -> str | None:
    """The typed answer of a sample in canonical form; None: none was found.

    An answer that came with the sample decides; its text is not read then.
    """
    return extract_answer(sample.text if sample.answer is None else sample.answer, answer_type)


_TYPEWRITTEN = str.maketrans("\u2018\u2019\u201c\u201d\u2212\u2013", "''\"\"--")
"""Typographic quotes, minus and dash, as a keyboard has them."""

_MARKS = r"[\s*_`$\"'\\]*"
"""Markdown, LaTeX and quotes that may stand before an answer."""

_IS = rf"{_MARKS}(?:(?:is|was|(?:will|would|must|should) be)\b|:|=){_MARKS}(?::{_MARKS})?"

_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}")


def _last(pattern: re.Pattern[str], text: str) -> str | None:
    """The group that took part in a pattern's last match."""
    found = None
    for match in pattern.finditer(text):
        found = match[match.lastindex or 0]
    return found


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


_WRAPPING = " \t*_`$\"'\\()[]{}.,;!"

# "B, I think" names one letter, "B or C" two: then it is no choice.
_SINGLE = (
    r"(?![)\]*]*\s*(?:,|/|&|or\b|and\b)\s*(?:(?:or|and)\s+)?[(\[]?"
    r"(?:[B-HJ]\b|[AI]\b(?!\s+[a-z]|')))"
)
_STATED_LETTER = re.compile(
    rf"(?i:\b(?:answer|option|choice){_IS}(?:(?:option|choice|letter)\b{_MARKS})?)(?:"
    rf"[(\[]{_MARKS}([A-Ja-j]){_MARKS}[)\]]{_SINGLE}"
    # "A" and "I" are words as well, so prose may not follow them unless it gives a reason.
    rf"|([A-J])\b(?!['+#-]){_SINGLE}(?=\s*[^\w\s]|\s*$|\s+(?:because|since|as)\b)"
    rf"|([B-HJ])\b{_SINGLE}(?=\s+\w)"
    r"|([b-hj])\b(?=[).*_ ]*$))",
    re.MULTILINE,
)
_LETTER = re.compile(r"(?i:(?:option|choice|letter)\s+)?([A-Ja-j])")
# "A: Paris" is how a dialogue goes on, and "J. R. Ewing" a name.
_LEADING_LETTER = re.compile(r"\A[\s*_]*(?:\(([A-J])\)|([A-J])[).]|([B-J]):)[*_]*\s+(?![A-Z]\.)\S")
_OPTION = re.compile(r"(?<!\S)[*_]*(?:\([A-J]\)|[A-J][).:])(?!\w)")
_CLOSING_LETTER = re.compile(r"\(([A-J])\)[\s*_$.!]*$")


def _choice(text: str) -> str | None:
    letter = (
        _last(_STATED_LETTER, text)
        or _lone_letter(_last(_BOXED, text) or "")
        or _lone_letter(text)
        or _leading_letter(text)
        or _closing_letter(text)
    )
    return letter.upper() if letter else None


def _lone_letter(text: str) -> str | None:
    """A letter with a line to itself: the whole text, the first line or the last."""
    lines = _lines(text)
    for line in (lines[0], lines[-1]) if lines else ():
        match = _LETTER.fullmatch(re.sub(r"\\text", "", line).strip(_WRAPPING))
        if match and (len(lines) == 1 or match[1].isupper()):
            return match[1]
    return None


def _leading_letter(text: str) -> str | None:
    """The option that a text opens with, unless it goes through several."""
    return _last(_LEADING_LETTER, text) if len(_OPTION.findall(text)) == 1 else None


def _closing_letter(text: str) -> str | None:
    """The bracketed letter that a text ends with, unless its last line has others."""
    line = (_lines(text) or [""])[-1]
    match = _CLOSING_LETTER.search(line)
    return match[1] if match and len(re.findall(r"\([A-J]\)", line)) == 1 else None


_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d{1,2})?"
_UNIT = r"(?:[cmk]?m|[mk]?g|m?[ls]|h|min)\b"
_NUMBER = (
    # Not inside a word, a date, a version, an exponent or a root, nor behind an operator.
    r"(?<![\w.,:^/√+-])(?<!sqrt[({])"
    rf"(?:(?<!\d\s)[-+])?[$€£¥]?-?(?>{_DIGITS}(?:\s?/\s?{_DIGITS})?)"
    # Not the beginning of something longer: a word, a sum, a range, a choice of two.
    rf"(?=\W|$|{_UNIT})(?![.,:/]\d|\^|[ \t]+\d|[ \t]*[-+*/\u00d7÷·][ \t]*[\d(]"
    r"|[ \t]*\b(?:or|to|and)[ \t]+[-$]?\d)"
)
_TOKEN = re.compile(_NUMBER)
_MARKED_NUMBER = re.compile(rf"####\s*({_NUMBER})")
_BOXED_NUMBER = re.compile(
    rf"\s*(?:[a-zA-Z]\s*=\s*)?({_NUMBER})[\s%°]*(?:\\text\{{[^{{}}\d]*\}}|[a-zA-Z ]*)"
)
_STATED_NUMBER = re.compile(
    rf"(?i:\banswer{_IS}(?:(?:about|approximately|exactly)\s+)?)"
    rf"(?:[a-zA-Z]\s*=\s*)?(?:\(\s*)?({_NUMBER})"
)
_RESULT = re.compile(rf"[=≈][\s*\\]*({_NUMBER})(?=\D*\Z)")
_ENUMERATOR = re.compile(r"^[ \t]*\d+[.)][ \t]+(?=\S)", re.MULTILINE)
_FRACTION = re.compile(r"(\d?)\\[dt]?frac\s*\{\s*(-?\d+)\s*\}\s*\{\s*(\d+)\s*\}")
_IN_LATEX = (("{,}", ","), ("\\!", ""), ("\\,", ""), ("\\$", "$"), ("\\%", "%"))
_LONGEST = 300
"""Characters of the longest number that is read or written."""


def _number(text: str) -> str | None:
    for in_latex, plain in _IN_LATEX:
        text = text.replace(in_latex, plain)
    # The space keeps "2\frac{1}{2}" from becoming 21/2.
    text = _FRACTION.sub(lambda m: f"{m[1]} {m[2]}/{m[3]}" if m[1] else f"{m[2]}/{m[3]}", text)
    if (marked := _last(_MARKED_NUMBER, text)) is not None:
        return _decimal(marked)
    if (boxed := _last(_BOXED, text)) is not None:
        match = _BOXED_NUMBER.fullmatch(boxed)
        return _decimal(match[1]) if match else None
    for pattern in (_STATED_NUMBER, _RESULT):
        if (token := _last(pattern, text)) is not None:
            return _decimal(token)
    text = _ENUMERATOR.sub("", text)
    return _only_number(text) or _only_number((_lines(text) or [""])[-1])


def _only_number(text: str) -> str | None:
    """The number of a text that has no other digits."""
    if any(character.isdigit() for character in _TOKEN.sub("", text)):
        return None
    values = {_decimal(token) for token in _TOKEN.findall(text)}
    return values.pop() if len(values) == 1 else None


def _decimal(token: str) -> str | None:
    """A number in canonical form, from the way it was written."""
    bare = re.sub(r"[\s,+$€£¥]", "", token)
    if len(bare) > _LONGEST:
        return None
    over, _, under = bare.partition("/")
    divisor = Fraction(under or 1)
    if divisor == 0:
        return None
    value = Fraction(over) / divisor
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


# "no" is an answer only where it is not the beginning of "no one" or "No. 5".
_YES_OR_NO = (
    r"(?:(yes)|(no)(?=\s*[^\w\s]|\s*$|\s+(?:because|since|as|it|they|he|she|this|that|there)\b))\b"
    r"(?!-\w|\.\s*\d|\s*/|,?\s+(?:or|and)\s+(?:yes|no)\b)"
)
_STATED_YES_OR_NO = re.compile(rf"(?i:\banswer{_IS}{_YES_OR_NO})")
_LEADING_YES_OR_NO = re.compile(rf"(?i:\A[\s*_]*{_YES_OR_NO})")


def _yes_no(text: str) -> str | None:
    word = (
        _last(_STATED_YES_OR_NO, text)
        or _yes_or_no_alone(_last(_BOXED, text) or "")
        or _last(_LEADING_YES_OR_NO, text)
        or _yes_or_no_alone((_lines(text) or [""])[-1])
    )
    return word.lower() if word else None


def _yes_or_no_alone(text: str) -> str | None:
    word = re.sub(r"\\text", "", text).strip(_WRAPPING).lower()
    return word if word in ("yes", "no") else None


def _text(text: str) -> str | None:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    words = [
        bare
        for word in folded.split()
        if (bare := word.lstrip("\"'«([{*_`").rstrip(".,;:!?…\"'»)]}*_`"))
    ]
    last = len(words) - 1
    # An article stands before another word: "vitamin A" keeps its letter.
    kept = [w for i, w in enumerate(words) if i == last or w not in ("a", "an", "the")]
    return " ".join(kept) or None


_EXTRACTORS: Mapping[AnswerType, Callable[[str], str | None]] = {
    "choice": _choice,
    "number": _number,
    "yes_no": _yes_no,
    "text": _text,
}
