"""Figures that add up over documents."""

from collections import Counter

from components.vocab.figures import coverage, fertility, figures
from components.vocab.tokenizer import CharTokenizer, WordTokenizer


def test_figures_of_a_document() -> None:
    text = "Der Fluß \n\n\tfließt"
    tokenizer = CharTokenizer("Derlufißt", lowercase=False)
    assert figures(text, tokenizer.encode(text), lowercase=False) == {
        "documents": 1,
        "tokens": 8 + 6 + 2,
        "unknown": 2,  # the space and the capital F
        "lines": 2,
        "words": 3 + 2,
        "bytes": 9 + 7 + 2,
    }


def test_bytes_are_those_of_the_text_that_is_encoded() -> None:
    text = "İI"  # two characters of two and one byte; lower case has three of one, two and one
    assert figures(text, [], lowercase=False)["bytes"] == 3 + 1
    assert figures(text, [], lowercase=True)["bytes"] == 4 + 1


def test_coverage_and_fertility_leave_line_ends_aside() -> None:
    text = "a b c d\na"
    ids = WordTokenizer(["a", "b"], lowercase=False, pretokenized=True).encode(text)
    total = figures(text, ids, lowercase=False)
    assert coverage(total) == 3 / 5
    assert fertility(total) == 1


def test_nothing_has_no_coverage() -> None:
    assert coverage(Counter()) is None
    assert fertility(Counter()) is None
