"""Which letter a text chooses, and where it chooses none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.answers import extract_answer

CHOICES: list[tuple[str, str | None]] = [
    ("The answer is (C).", "C"),
    ("The answer is C.", "C"),
    ("the answer is C", "C"),
    ("The correct answer is **B) Paris**.", "B"),
    ("The correct answer is: D", "D"),
    ("The best option is (E), as shown.", "E"),
    ("The right choice is option F.", "F"),
    ("Answer: C", "C"),
    ("answer: (c)", "C"),
    ("Answer: b", "B"),
    ("**Answer:** G", "G"),
    ("Answer:\nH", "H"),
    ("Answer: A", "A"),
    ("Answer: A. Paris", "A"),
    ("The answer is A because the others are wrong.", "A"),
    ("The answer is I, of course.", "I"),
    ("The answer is $\\boxed{D}$.", "D"),
    ("The answer is \\(J\\).", "J"),
    ("Answer: C Paris", "C"),
    ("Answer: A (the first one)", "A"),
    ("The answer is B, I think.", "B"),
    ("The answer is A. Wait, no: the answer is B.", "B"),
    ("It looks like (A), but the answer is (D).", "D"),
    ("So \\boxed{C}", "C"),
    ("So \\boxed{\\text{B}} it is", "B"),
    ("We get $\\boxed{(E)}$", "E"),
    ("First \\boxed{A}, then rather \\boxed{B}", "B"),
    ("C", "C"),
    ("c", "C"),
    ("A", "A"),
    ("I", "I"),
    ("(C)", "C"),
    ("**C**", "C"),
    ("C.", "C"),
    (" D) ", "D"),
    ("Option C", "C"),
    ("B\n\nThe capital of France is Paris.", "B"),
    ("We go through it.\nIt cannot be the first.\n\nD", "D"),
    ("C) Paris", "C"),
    ("C. Paris", "C"),
    ("(B) London is the largest.", "B"),
    ("E: the last one", "E"),
    ("**A.** Paris", "A"),
    ("A man walks into a bar.", None),
    ("I think it is hard to say.", None),
    ("I. Think", "I"),
    ("A: Paris", None),
    ("Answer: I think that it depends.", None),
    ("Answer: A man walks.", None),
    ("Answer: I'd rather not.", None),
    ("The answer is a mess.", None),
    ("The answer is a", None),
    ("The answer is A or B.", None),
    ("The answer is B, C and D.", None),
    ("The answer is either A or B.", None),
    ("The answer is not A.", None),
    ("The answer is Berlin.", None),
    ("Answer: B12", None),
    ("Answer: C++", None),
    ("Answer: C-sections are safe", None),
    ("The answer is K.", None),
    ("Option C cannot be true.", None),
    ("A. Paris\nB. London\nC. Rome", None),
    ("(A) Paris (B) London", None),
    ("It is (A), not (B)", None),
    ("J. R. Smith wrote it.", None),
    ("Carbon is C and boron is B in chemistry", None),
    ("DNA", None),
    ("", None),
    (" \n ", None),
    ("I do not know.", None),
    ("\\boxed{42}", None),
    ("The answer is (C).\n\nThe answer is (D).\n\nThe answer is (E).", "C"),
    ("The answer is (C).\n\nNow, combining all answers:\nThe answer is (A).", "C"),
    ("The answer is (C).\n\nFinal Answer: The answer is (F).", "C"),
    ("The answer is (C) is incorrect. The correct answer is (D).", "D"),
    ("The answer is (C). Actually, I forgot a term, so the answer is (D).", "D"),
    ("The answer is (C). Sorry, that was a slip: the answer is (D).", "D"),
    ("Answer: C. Let me recheck this.\nAnswer: D", "D"),
    ("The answer is (C). No, the answer is (D).", "D"),
    ("The answer is (C). There is no doubt. The answer is (D).", "C"),
    ("Wait, so the answer is (C). The answer is (D).", "C"),
    ("The answer is (B) and (D).", "B"),
    ("The answer is (B) or (D).", "B"),
    ("The answer is (B), (C), and (D).", "B"),
    ("The answer is (B, D).", "B"),
    ("The answer is (B and D).", "B"),
    ("The answer is (F", "F"),
    ("The answer is (J. False, True).", "J"),
    ("The answer is **(H) Rods and cones**.", "H"),
    ("The answer is **I.** How groups settled", "I"),
    ("The answer is `I. 2.88`.", "I"),
    ("The answer is `D`.", "D"),
    ("The answer is [H].", "H"),
    ("The answer is: G. A word depends on the hardware", "G"),
    ("Final Answer: D. True, True", "D"),
    ("Final Answer:\n**D. True, True**", "D"),
    ("The correct answer is:\n\n**C) Paris**\n\nIt is the capital.", "C"),
    ("The correct answer is:\n\n(C) Paris", "C"),
    ("The correct answer is:\r\n\r\nC\r\n", "C"),
    ("The correct option is (G). Note that others are near.", "G"),
    ("My choice is D.", "D"),
    ("Final choice: D", "D"),
    ("The answer is option E.", "E"),
    ("The answer is (c).", "C"),
    ("The statement that is wrong is: H. It will still be used.", "H"),
    ("The best is: **B) Paris**", "B"),
    ("It is A.\n\n(B)", "B"),
    ("Which answer is:\nA. Paris\nB. London", None),
    ("The correct answer is one of:\nA. Paris\nB. London", None),
    ("Let's check each option:\nA. Paris is a town.\nB. So is Rome.\nC", None),
    ("A. Paris\nB. London\n(C", None),
    ("I. f(x)\nII. g(x)\nIII. h(x)", None),
    ("The answer is (I, II) and (II, III) only.", None),
    ("The answer is (II).", None),
    ("The answer is (i).", None),
    ("The answer is (a) 0.2, (b) 0.3.", None),
    ("The answer is (C for one, D for the other).", None),
    ("The answer is (Cannot be determined).", None),
    ("The answer is (ACG).", None),
    ("The answer is ABC.", None),
    ("The answer is C and H.", None),
    ("The answer is C/D.", None),
    ("The answer is C & D.", None),
    ("The answer would be (C) if it rained.", None),
    ("This is as in (C).", None),
    ("The vitamin is C. She needs it.", None),
    ("His blood type is B.", None),
    ("The most common cause is: E. coli", None),
    ("It was written by: J. R. Smith", None),
    ("The options are: (A) Paris (B) Rome", None),
    ("Each option: A. Paris, then the others", None),
    ("The answer is not in the options. B is close.", None),
    ("[I_2] = K\n\n[I_", None),
    ("I went home.\nI", "I"),
    ("i", "I"),
    ("Option K", None),
]


@pytest.mark.parametrize(("text", "letter"), CHOICES)
def test_a_text_gives_this_letter_or_none(text: str, letter: str | None) -> None:
    assert extract_answer(text, "choice") == letter


@given(st.text(alphabet=st.characters(exclude_characters="ABCDEFGHIJabcdefghij")))
def test_no_letter_of_a_choice_no_choice(text: str) -> None:
    assert extract_answer(text, "choice") is None


@given(
    st.sampled_from(["A", "I"]),
    st.lists(st.sampled_from(["dog", "went", "out,", "fine.", "\n", "maybe"]), min_size=1),
)
def test_a_word_before_prose_is_never_a_choice(word: str, prose: list[str]) -> None:
    if prose[0] != "\n":
        assert extract_answer(" ".join([word, *prose]), "choice") is None


@given(
    st.sampled_from("ABCDEFGHIJ"),
    st.sampled_from(["The answer is ({}).", "**Answer:** {}", "Answer: {}. Paris", "({})"]),
    st.sampled_from(["", "We know that it rained.\n", "Not (A), nor (B): too small.\n\n"]),
)
def test_a_stated_letter_is_read_whatever_reasons_stand_before(
    letter: str, statement: str, reasons: str
) -> None:
    assert extract_answer(reasons + statement.format(letter), "choice") == letter
