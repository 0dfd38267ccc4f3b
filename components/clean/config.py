"""Settings of the corpus and of the clean stage."""

from dataclasses import dataclass, field
from typing import Literal

# Where the text lies never decides what it is: these fields stay out of fingerprints, the content digests of
# the sources go in instead.
_LOCATION = {"identity": False}


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """Which text, and how it is cut into documents.

    Three ways to name it: `source` (an embedded corpus), `paths` (split by a hash of each document's text),
    or `train` + `valid` + `test` (splits as given).
    """

    source: Literal["python-docs"] | None = field(default=None, metadata=_LOCATION)
    """`python-docs`: the language reference and the docstrings of the running Python."""
    paths: tuple[str, ...] = field(default=(), metadata=_LOCATION)
    """Files, folders or globs of .txt, .jsonl, .txt.gz, .jsonl.gz."""
    train: tuple[str, ...] = field(default=(), metadata=_LOCATION)
    """Explicit training set: files, folders or globs."""
    valid: tuple[str, ...] = field(default=(), metadata=_LOCATION)
    """Explicit validation set, never altered."""
    test: tuple[str, ...] = field(default=(), metadata=_LOCATION)
    """Explicit test set, never altered."""
    valid_fraction: float = 0.05
    """Share of the documents for validation where the splits are not explicit."""
    test_fraction: float = 0.05
    """Share of the documents for the test where the splits are not explicit."""
    document: Literal["file", "line", "block"] = "block"
    """What one document of a .txt file is: the file, a line, or the lines between blank lines."""
    pretokenized: bool = False
    """Take the white-space tokens as they are: no repair, no filters, no duplicate removal."""
    text_key: str = "text"
    """The key of a .jsonl object that holds the text."""

    def __post_init__(self) -> None:
        """Refuse fractions that leave nothing to train on."""
        if not (self.valid_fraction > 0 and self.test_fraction > 0 and self.valid_fraction + self.test_fraction < 1):
            raise ValueError(
                "valid_fraction and test_fraction must be above 0 and leave more than nothing for training"
            )


@dataclass(frozen=True, kw_only=True)
class CleanConfig:
    """Which documents stay."""

    min_chars: int = 1
    """Shorter documents are dropped as `too_short`."""
    duplicates: bool = True
    """Drop documents whose cleaned text was seen before in corpus order."""
    max_bad_fraction: float = 0.01
    """The stage fails when more than this share of the records, or of the bytes read, is malformed."""

    def __post_init__(self) -> None:
        """Refuse values without a meaning."""
        if self.min_chars < 1:
            raise ValueError("min_chars must be at least 1")
        if not 0 <= self.max_bad_fraction <= 1:
            raise ValueError("max_bad_fraction must lie between 0 and 1")
