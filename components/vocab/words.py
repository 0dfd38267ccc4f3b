"""Words of raw text, and text from words again.

    Prof. O'Neill kauft 3 Äpfel (für 你好).
    Prof . O'Neill kauft 3 Äpfel ( für 你 好 ) .

A word is a run of letters, digits and their combining marks, apostrophes inside it included. Scripts written
without spaces have no such runs to find, so each of their characters stands alone, as does each punctuation
mark or symbol.
"""

import re
import sys
import unicodedata
from collections.abc import Callable, Iterable
from functools import cache

from components.scripts import SPACELESS

_WIDE_PUNCTUATION = "\u3001-\u3003\u3008-\u301f\u30fb\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
_STANDS_CLOSE = re.compile(f"[{SPACELESS}{_WIDE_PUNCTUATION}]")
_CLOSING = frozenset(".,;:!?)]}%'")
_OPENING = frozenset("([{")


@cache
def word_splitter() -> Callable[[str], list[str]]:
    """The function that cuts a line into words; it loses nothing but white space."""
    # Python's \w leaves out combining marks, without which words of Hindi or pointed Hebrew fall apart.
    marks = "".join(c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c) in ("Mn", "Mc"))
    letters = f"(?:[^\\W{SPACELESS}]++|[{marks}]++)++"
    return re.compile(f"[{SPACELESS}][{marks}]*|{letters}(?:['’]{letters})*|\\S").findall


def join_words(words: Iterable[str]) -> str:
    """Words as a reader expects them: spaces between, but none before closing or after opening punctuation.

    Characters of scripts written without spaces, and their punctuation, take no space on either side.
    """
    text: list[str] = []
    previous = ""
    for word in words:
        if text and not _close(previous, word):
            text.append(" ")
        text.append(word)
        previous = word
    return "".join(text)


def _close(left: str, right: str) -> bool:
    if right in _CLOSING or left in _OPENING:
        return True
    return bool(_STANDS_CLOSE.match(left[-1:]) or _STANDS_CLOSE.match(right))
