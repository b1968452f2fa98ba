from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from routers.skill.keywords import MIN_TEXTS, Vocabulary, learn_vocabulary

TEXTS = [f"Solve the triangle {i}" for i in range(6)] + [f"Bake the bread {i}" for i in range(6)]


def names(vocabulary: Vocabulary, text: str, n: int = 9) -> list[str]:
    return [vocabulary.terms[i] for i in vocabulary.strongest(text, n)]


def test_terms_are_words_and_pairs_that_neither_few_nor_most_texts_have():
    assert learn_vocabulary(TEXTS, 99).terms == (
        "bake",
        "bake the",
        "bread",
        "solve",
        "solve the",
        "the bread",
        "the triangle",
        "triangle",
    )


def test_a_small_vocabulary_holds_the_terms_of_most_texts():
    texts = [*TEXTS, "bread", "bread", "", ""]

    assert learn_vocabulary(texts, 1).terms == ("bread",)


def test_the_strongest_terms_are_the_rarer_and_the_repeated():
    vocabulary = Vocabulary(("bread", "oven", "dough"), (1.0, 2.0, 1.5))

    assert names(vocabulary, "Bread in the OVEN, dough") == ["oven", "dough", "bread"]
    assert names(vocabulary, "dough dough dough oven bread", 2) == ["dough", "oven"]


def test_a_text_of_unknown_words_has_no_terms():
    assert names(learn_vocabulary(TEXTS, 99), "entirely different") == []


def test_han_characters_are_words():
    texts = [*["数学题"] * MIN_TEXTS, *["面包"] * MIN_TEXTS]

    assert set(learn_vocabulary(texts, 99).terms) == {"数", "学", "题", "数 学", "学 题"} | {
        "面",
        "包",
        "面 包",
    }


def test_too_few_texts_have_no_vocabulary():
    assert learn_vocabulary(["same words"] * (MIN_TEXTS - 1), 99) == Vocabulary((), ())


@given(st.permutations(TEXTS))
def test_the_order_of_the_texts_does_not_matter(texts: list[str]):
    assert learn_vocabulary(texts, 5) == learn_vocabulary(TEXTS, 5)
