"""Typed answers read from what an expert wrote: canonical strings, or None.

    choice    one letter, "A" to "J"
    number    a plain decimal ("-1234.5"); a fraction in lowest terms where no decimal ends ("1/3")
    yes_no    "yes" or "no"
    text      the whole text without case, articles and the marks around its words
    json      the value with sorted keys and no spaces
    code      the last fenced block, without trailing spaces and empty lines around it

A type has a few patterns, tried from the surest to the weakest. What no pattern finds is not
guessed at: a wrong vote costs more than an abstention.
"""

from composer.answers.extract import canonical_answer, completion_answer, extract_answer
from composer.answers.same import RELATIVE_TOLERANCE, same_answer

__all__ = [
    "RELATIVE_TOLERANCE",
    "canonical_answer",
    "completion_answer",
    "extract_answer",
    "same_answer",
]
