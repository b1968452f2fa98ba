r"""The letter of an option, "A" to "J": stated, boxed, alone on a line, or before its own words.

    "The answer is (C)."  "**Answer:** C) Paris"  "\boxed{C}"  "C"  "C. Paris"

The *first* statement holds unless the text takes it back ("wait", "that is wrong"): models run on,
into a summary or into questions of their own. On MMLU-Pro's recorded texts (train split), where
"Final answer: ..." follows another statement (n = 49), the first is right in 57 % and the last in
2 %; where "now, combining all answers" does (n = 117), in 71 % and 3 %. Where neither does and much
stands between (n = 129), in 15 % and 35 %: these are lost, as nothing in the text tells them apart.
Of a list in the form asked for, "(B) and (D)" (n = 287), the first is right in 28 %, and counts.

Not read: a letter that stands for something else ("Option C cannot be true", "vitamin C"), one that
the text only ends with or refers to ("as in (C)"), what is said under a condition ("would be (C)"),
letters in a list without brackets ("A or B"), the first of several options gone through.
"""

from __future__ import annotations

import re

from composer.answers.reading import BOXED, WRAPPING, last, lines, typewritten

_MARKS = r"[ \t*_`$\"'\\]*"
"""As elsewhere, on one line: what stands on the next may be the first of several options."""
_SAID = (
    r"(?i:\b(?:answer|(?:correct|right|best|final|my) (?:option|choice))"
    rf"{_MARKS}(?:(?:is|was)\b|:|=){_MARKS}(?::{_MARKS})?"
    rf"(?:(?:option|choice|letter)\b{_MARKS})?)"
)
# "B, I think" names one letter, "B or C" two: without brackets that is no choice.
_SINGLE = (
    r"(?![)\]*]*\s*(?:,|/|&|or\b|and\b)\s*(?:(?:or|and)\s+)?[(\[]?"
    r"(?:[B-HJ]\b|[AI]\b(?!\s+[a-z]|')))"
)
_STATEMENT = re.compile(
    rf"{_SAID}(?:"
    # "(C)", "(C, D)", "(C: Paris)", or "(C" where the text was cut; but not "(II)", "(C for x)".
    rf"[(\[]{_MARKS}([A-J])\b(?={_MARKS}(?:[)\].:]|,\s*[A-J]\b|and\s+[A-J]\b|\Z))"
    # Small letters number parts, "(a) 5, (b) 6", as often as options; "(i)" always does.
    rf"|[(\[]{_MARKS}([a-hj]){_MARKS}[)\]](?!(?:[^.;\n(]|\.\d)*\([b-j]\))"
    # "A" and "I" are words as well, so prose may not follow them unless it gives a reason.
    rf"|([A-J])\b(?!['+#-]){_SINGLE}(?=\s*[^\w\s]|\s*$|\s+(?:because|since|as)\b)"
    rf"|([B-HJ])\b{_SINGLE}(?=[ \t]+\w)"
    r"|([b-hj])\b(?=[).*_ ]*$)"
    # On a line below: alone, or marked as "**C.** Paris", which no list of options begins with.
    r"|\r?\n\s*(?:([A-J])[ \t)\].*_`$]*$|(?=[*_`$(\[])[*_`$]*[(\[]?([A-J])(?=[.:)\]*_`$])))",
    re.MULTILINE,
)
_TAKEN_BACK = re.compile(
    r"(?i)\b(?:wait|no(?=,)|actually|instead|sorry|mistaken?|correction|apologi[sz]e"
    r"|(?:re-?(?:check|consider|examin)|double-check)(?:e?d|e?s|e|ing)?"
    r"|(?:is|was) (?:not (?:correct|right)|wrong|incorrect))\b"
)
_LETTER = re.compile(r"(?i:(?:option|choice|letter)\s+)?([A-Ja-j])")
# "A: Paris" is how a dialogue goes on, "J. R. Ewing" a name, and "E. coli" after "is:" a species.
_BEFORE_WORDS = re.compile(
    r"\A[\s*_]*(?:\(([A-J])\)|([A-J])[).]|([B-J]):)[*_]*\s+(?![A-Z]\.)\S"
    r"|\b(?:is|are|was|were):[ \t*_]*(?:\(([A-J])\)|([A-J])[).])[*_]*[ \t]+(?![A-Z]\.)[^\sa-z]"
)
_OPTION = re.compile(r"(?<!\S)[*_]*(?:\([A-J]\)|(?:[A-J]|II)[).:])(?!\w)")


def read_choice(text: str) -> str | None:
    """The letter that a text chooses, a capital; None: none, or it is not clear which."""
    text = typewritten(text)
    letter = (
        _stated_letter(text)
        or _lone_letter(last(BOXED, text) or "")
        or _lone_letter(text)
        or _letter_before_words(text)
    )
    return letter.upper() if letter else None


def _stated_letter(text: str) -> str | None:
    """The first letter stated, or the first one after it was taken back."""
    letter, end = None, 0
    for match in _STATEMENT.finditer(text):
        if letter is None or _TAKEN_BACK.search(text, end, match.start()):
            letter = match[match.lastindex or 0]
        end = match.end()
    return letter


def _lone_letter(text: str) -> str | None:
    """A letter with a line to itself: the whole text, the first line or the last."""
    found = lines(text)
    if any(_OPTION.match(line) for line in found[1:-1]):
        return None
    for line in (found[0], found[-1]) if found else ():
        match = _LETTER.fullmatch(re.sub(r"\\text", "", line).strip(WRAPPING))
        is_cut = line.count("(") + line.count("[") > line.count(")") + line.count("]")
        if match and not is_cut and (len(found) == 1 or match[1].isupper()):
            return match[1]
    return None


def _letter_before_words(text: str) -> str | None:
    """The option that a text opens with, or gives after "is:", unless it goes through several."""
    return last(_BEFORE_WORDS, text) if len(_OPTION.findall(text)) == 1 else None
