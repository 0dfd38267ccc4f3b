"""The account of a cleaning: how many records came in, what became of each, and whether enough is left."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from components.clean.clean import REASONS, write_bad
from components.clean.config import CleanConfig, CorpusConfig
from components.clean.read import BadRecord
from components.clean.sources import Source
from components.documents import SPLITS
from components.errors import UserError
from components.files import hash_file

Results = Sequence[Mapping[str, Any]]


def make_funnel(read: Results, published: Results, sources: Sequence[Source], corpus: CorpusConfig) -> dict[str, Any]:
    """Sum up what `clean_part` and `publish_chunk` returned, and check that every record is counted once."""
    documents_in = sum(r["documents"] + sum(r["quarantined"].values()) for r in read)
    kept = {split: sum(p["kept"][split] for p in published) for split in SPLITS}
    dropped = {reason: sum(p["dropped"].get(reason, 0) for p in published) for reason in REASONS}
    quarantined = sum(p["quarantined"] for p in published)
    assert documents_in == sum(kept.values()) + sum(dropped.values()) + quarantined, (
        f"{documents_in} documents came in, but {kept} were kept, {dropped} dropped and {quarantined} quarantined"
    )
    letters = sum(p["letters"] for p in published)
    return {
        "documents_in": documents_in,
        "kept": kept,
        "dropped": dropped,
        "quarantined": quarantined,
        "bytes_in": sum(r["bytes"] for r in read),
        "bytes_kept": {split: sum(p["bytes"][split] for p in published) for split in SPLITS},
        "pretokenized": corpus.pretokenized,
        "spaceless": 2 * sum(p["spaceless_letters"] for p in published) > letters,
        "sources": [
            {"name": s.name, "sha256": hash_file(Path(s.path)), "bytes": s.bytes, "split": s.split} for s in sources
        ],
    }


def refuse_too_many_bad(read: Results, clean: CleanConfig, bad: Iterable[BadRecord], place: Path) -> None:
    """Raise UserError, with all bad records listed in `place`, where they are more than the config allows.

    Counted are records and bytes: a file that cannot be read at all is one bad record, however large.
    """
    reasons: Counter[str] = sum((Counter(r["quarantined"]) for r in read), Counter())
    lost: Counter[str] = sum((Counter(r["bytes_lost"]) for r in read), Counter())
    total = reasons.total() + sum(r["documents"] for r in read)
    total_bytes = sum(r["bytes_read"] for r in read)
    allowed = clean.max_bad_fraction
    if reasons.total() <= allowed * total and lost.total() <= allowed * total_bytes:
        return
    write_bad(place, bad)
    worst = ", ".join(f"{reason}: {n}" for reason, n in sorted(reasons.items(), key=lambda r: (-r[1], r[0]))[:3])
    raise UserError(
        f"{reasons.total():,} of {total:,} records are malformed ({worst}), {lost.total() / total_bytes:.2%} of the "
        f"bytes, most in {max(lost, key=lost.__getitem__)}; they are listed in {place}: "
        f"repair them or raise clean.max_bad_fraction ({allowed:g})"
    )


def refuse_empty_splits(funnel: Mapping[str, Any], corpus: CorpusConfig) -> None:
    """Raise UserError where a split got no document."""
    empty = [split for split in SPLITS if not funnel["kept"][split]]
    if not empty:
        return
    documents, split = funnel["documents_in"], empty[0]
    lost = {**funnel["dropped"], "malformed": funnel["quarantined"]}
    counts = ", ".join(f"{reason} {n:,}" for reason, n in lost.items() if n)
    if not documents:
        raise UserError("the corpus holds no documents: every source is empty or blank; name files with text")
    if len(empty) == len(SPLITS):
        raise UserError(f"all {documents:,} documents were dropped ({counts}); check the corpus and clean.min_chars")
    dropped = f" ({counts} of {documents:,} documents were dropped)" if counts else ""
    if getattr(corpus, split):
        raise UserError(f"no document of corpus.{split} is left{dropped}; name files with other text in corpus.{split}")
    left = sum(funnel["kept"].values())
    finer = "" if corpus.document == "line" else ", or cut .txt files finer with corpus.document=line"
    if left < len(SPLITS):  # no fraction makes three splits of them
        raise UserError(
            f"documents left to split: {left}{dropped}, where three splits need some tens; add text{finer}, "
            "or give corpus.train, corpus.valid and corpus.test explicitly"
        )
    if split == "train":
        fix = "lower corpus.valid_fraction and corpus.test_fraction, add text"
    else:
        fix = f"raise corpus.{split}_fraction ({getattr(corpus, f'{split}_fraction'):g}), add text"
    raise UserError(f"none of the {left:,} documents left fell into {split}{dropped}; {fix}{finer}")
