"""Text repair, and which script a text is written in."""

import re
import unicodedata
from collections import Counter

from components.scripts import SPACELESS

# Every way Unicode ends a line: CR LF, CR, VT, FF, NEL, line and paragraph separator.
_LINE_END = re.compile("\r\n|[\r\v\f\x85\u2028\u2029]")
# Controls, zero-width space, word joiner, byte order mark. ZWNJ and ZWJ stay: Persian, Hindi and emoji spell
# with them.
_INVISIBLE = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u200b\u2060\ufeff]")

_SPACELESS = re.compile(f"[{SPACELESS}]")
_ASCII_NON_LETTERS = bytes(c for c in range(128) if not chr(c).isalpha())


def line_ends(text: str) -> str:
    """The text with CR LF and CR as line feeds, otherwise as it is."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def normalise(text: str) -> str:
    """The text in NFC with plain line ends and spaces and without what nobody sees. Idempotent.

    Each run of white space within a line becomes one space, lines lose theirs at both ends, the text loses
    blank lines at both ends. Unicode normalisation form C after UAX #15.
    """
    text = _INVISIBLE.sub("", _LINE_END.sub("\n", text))
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)  # last: what was removed may have kept a letter from its accent
    return "\n".join([" ".join(line.split()) for line in text.split("\n")]).strip("\n")


def count_letters(text: str) -> tuple[int, int]:
    """How many letters the text has, and how many of them belong to scripts written without spaces."""
    if text.isascii():
        return len(text.encode("ascii").translate(None, _ASCII_NON_LETTERS)), 0
    letters = {c: n for c, n in Counter(text).items() if c.isalpha()}
    return sum(letters.values()), sum(n for c, n in letters.items() if _SPACELESS.match(c))
