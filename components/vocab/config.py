"""Settings of the vocab stage."""

from dataclasses import dataclass
from typing import Literal

BYTES = 256
RESERVED = ("<unk>", "<eos>")
"""What every vocabulary starts with: id 0 stands for what is not in it, id 1 for the end of a line."""


@dataclass(frozen=True, kw_only=True)
class VocabConfig:
    """What a token is and how many there are."""

    kind: Literal["word", "char", "bpe"] = "bpe"
    """word: words and punctuation marks; char: Unicode characters; bpe: byte pair encoding, lossless."""
    size: int | None = None
    """Number of tokens, the reserved ones included; null takes what the text gives, up to 4,096 (bpe) or 50,000."""
    min_count: int = 1
    """Words or characters seen fewer times become `<unk>`; a bpe merge needs this count."""
    lowercase: bool = False
    """Fold the text to lower case first."""

    def __post_init__(self) -> None:
        """Refuse sizes that hold no token."""
        least = BYTES + len(RESERVED) if self.kind == "bpe" else len(RESERVED) + 1
        if self.size is not None and self.size < least:
            raise ValueError(f"size must be at least {least} for kind {self.kind}")
        if self.min_count < 1:
            raise ValueError("min_count must be at least 1")

    @property
    def most(self) -> int:
        """The largest number of tokens that the vocabulary may have."""
        return self.size or (4096 if self.kind == "bpe" else 50_000)
