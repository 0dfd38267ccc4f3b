import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.clean.text import count_letters, line_ends, normalise

messy = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from(" \t\r\n\v\f\x85\u2028\u00a0\u3000\ufeff\u0301e\u0327\u200b\x00"),
    )
)


@given(messy)
def test_normalising_twice_changes_nothing(text):
    once = normalise(text)
    assert normalise(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert once.splitlines() == once.split("\n") or not once
    assert once == once.strip()


@given(messy)
def test_normalising_keeps_every_letter(text):
    def letters(text: str) -> list[str]:
        return [c for c in unicodedata.normalize("NFD", text) if c.isalpha()]

    assert letters(normalise(text)) == letters(text)


@pytest.mark.parametrize(
    ("found", "repaired"),
    [
        ("", ""),
        ("plain", "plain"),
        ("a\r\nb\rc\nd", "a\nb\nc\nd"),
        ("a\x0bb\x0cc\x85d\u2028e\u2029f", "a\nb\nc\nd\ne\nf"),
        ("\n\n  a \t b  \n\n c\n \n", "a b\n\nc"),
        ("a\u00a0\u3000\u2003b\u202fc", "a b c"),
        ("nul\x00 bell\x07 del\x7f c1\x9f", "nul bell del c1"),
        ("\ufeffzero\u200bwidth\u2060\ufeff", "zerowidth"),
        ("e\u0301", "é"),
        ("e\u200b\u0301", "é"),
        ("می\u200cخواهم क्\u200dष 👩\u200d🚀", "می\u200cخواهم क्\u200dष 👩\u200d🚀"),
        ("中文　文本\r\n第二行", "中文 文本\n第二行"),
        ("\x00\u200b \t", ""),
    ],
)
def test_what_is_repaired(found, repaired):
    assert normalise(found) == repaired


def test_line_ends_touch_nothing_else():
    assert line_ends(" a\t\r\n\rb\x00\x85 \n") == " a\t\n\nb\x00\x85 \n"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_letters_of_ascii_are_counted_as_those_of_any_text(text):
    assert count_letters(text)[0] == sum(c.isalpha() for c in text)
    ascii_text = text.encode("ascii", "ignore").decode()
    assert count_letters(ascii_text) == (sum(c.isalpha() for c in ascii_text), 0)


@pytest.mark.parametrize("text", ["语言模型", "ことば", "ｶﾅ", "カタカナ", "ภาษา", "ພາສາ", "ភាសា", "ဘာသာ", "𠀀"])
def test_scripts_without_spaces(text):
    letters, spaceless = count_letters(f"{text}, 12 ")
    assert letters == spaceless > 0


@pytest.mark.parametrize("text", ["words", "слова", "한국어", "हिन्दी", "كلمات"])
def test_scripts_with_spaces(text):
    letters, spaceless = count_letters(text)
    assert letters > 0
    assert spaceless == 0
