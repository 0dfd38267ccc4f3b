"""Splitting raw text in words and joining them again."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.vocab.words import join_words, word_splitter


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("It's 3.5 km, he said.", "It's 3 . 5 km , he said ."),
        ("don’t 'quote' rock'n'roll'", "don’t ' quote ' rock'n'roll '"),
        ("snake_case f(x)[0] == -1", "snake_case f ( x ) [ 0 ] = = - 1"),
        ("我用Python写。", "我 用 Python 写 。"),
        ("カタカナとひらがな", "カ タ カ ナ と ひ ら が な"),
        ("हिन्दी की किताब", "हिन्दी की किताब"),
        ("שָׁלוֹם עולם", "שָׁלוֹם עולם"),
        ("กินข้าว", "กิ น ข้ า ว"),
        ("cafe\u0301s", "cafe\u0301s"),
        ("", ""),
    ],
)
def test_words(line: str, words: str) -> None:
    assert word_splitter()(line) == words.split()


@settings(deadline=None)
@given(st.text())
def test_only_white_space_is_lost(line: str) -> None:
    words = word_splitter()(line)
    assert "".join(words) == "".join(line.split())
    assert all(words)


def test_a_hostile_line_takes_no_quadratic_time() -> None:
    line = "a'" * 200_000 + "\u0301" * 200_000
    assert "".join(word_splitter()(line)) == line


@pytest.mark.parametrize(
    "text",
    [
        "It's fine, he said (twice): 50% of it!",
        "[see below]; {a} ends?",
        "我在湖边，等你。",
        "「火车」是不是迷路了？",
        "我用Python写。",
    ],
)
def test_joined_words_read_as_they_were_written(text: str) -> None:
    assert join_words(word_splitter()(text)) == text


def test_no_words_are_no_text() -> None:
    assert join_words([]) == ""
