"""What a tokenizer makes of a corpus, in numbers that add up over documents."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.documents import read_documents
from components.vocab.tokenizer import UNK, lines, load_tokenizer

FIGURES = ("documents", "tokens", "unknown", "lines", "words", "bytes")


def figures(text: str, ids: Sequence[int], *, lowercase: bool) -> Counter[str]:
    """Counts of one document and its ids.

    `tokens` are all ids, `lines` how many of them are line ends, `words` white-space words and one for each
    line end, `bytes` UTF-8 bytes of the lines as they are encoded and a line break for each.
    """
    encoded = list(lines(text, lowercase=lowercase))
    return Counter(
        documents=1,
        tokens=len(ids),
        unknown=ids.count(UNK),
        lines=len(encoded),
        words=sum(len(line.split()) + 1 for line in encoded),
        bytes=sum(len(line.encode()) + 1 for line in encoded),
    )


def measure_documents(*, out: Path, documents: str, tokenizer: str) -> dict[str, Any]:
    """The figures of one file of documents, summed; writes nothing."""
    encoder = load_tokenizer(Path(tokenizer))
    total: Counter[str] = Counter()
    for document in read_documents(Path(documents)):
        total += figures(document.text, encoder.encode(document.text), lowercase=encoder.lowercase)
    return {name: total[name] for name in FIGURES}


def coverage(total: Counter[str]) -> float | None:
    """Share of the tokens that are not `<unk>`, line ends aside; None without a token."""
    tokens = total["tokens"] - total["lines"]
    return (tokens - total["unknown"]) / tokens if tokens else None


def fertility(total: Counter[str]) -> float | None:
    """Tokens per white-space word, line ends aside; None without a word."""
    words = total["words"] - total["lines"]
    return (total["tokens"] - total["lines"]) / words if words else None
