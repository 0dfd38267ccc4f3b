import math
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from components.clean import clean as passes
from components.clean.clean import clean_part, publish_chunk, split_of
from components.clean.config import CleanConfig, CorpusConfig
from components.clean.duplicates import text_hash


def part(folder: Path, content: str, corpus: CorpusConfig, **slice_) -> dict:
    path = folder / "a.txt"
    path.write_text(content, newline="")
    pieces = [{"source": 0, "name": "a.txt", "path": str(path), "split": None, **slice_}]
    return clean_part(out=folder, part=3, pieces=pieces, corpus=corpus, clean=CleanConfig(min_chars=3))


@pytest.mark.parametrize("fraction", [math.nan, math.inf, -math.inf, 0.0, 1.0])
@pytest.mark.parametrize("name", ["valid_fraction", "test_fraction"])
def test_fractions_that_leave_nothing_are_refused(name, fraction):
    with pytest.raises(ValueError, match=name):
        CorpusConfig(**{name: fraction})


def test_shares_of_hashed_splits_are_the_configured_ones():
    counts = Counter(split_of(text_hash(str(i)), 0.2, 0.1) for i in range(10_000))
    assert abs(counts["valid"] - 2000) < 200
    assert abs(counts["test"] - 1000) < 150
    assert split_of(b"\0" * 16, 1e-9, 1e-9) == "test"
    assert split_of(b"\xff" * 16, 0.49, 0.49) == "train"


def test_a_growing_fraction_moves_documents_out_of_train_only():
    hashes = [text_hash(str(i)) for i in range(1000)]
    for content in hashes:
        if split_of(content, 0.1, 0.1) != "train":
            assert split_of(content, 0.2, 0.1) == split_of(content, 0.1, 0.1)


def test_memory_is_bounded_by_chunks_that_publish_what_one_chunk_publishes(tmp_path, monkeypatch):
    content = "".join(f"line {i}\n" for i in range(100)) + "x\n" * 10
    corpus = CorpusConfig(document="line")
    one, many = tmp_path / "one", tmp_path / "many"
    one.mkdir()
    many.mkdir()
    whole = part(one, content, corpus)
    monkeypatch.setattr(passes, "CHUNK_COST", 2000)
    cut = part(many, content, corpus)
    assert whole["chunks"] == ["part-00003-00000"]
    assert len(cut["chunks"]) > 5
    assert (whole["documents"], whole["bytes"]) == (cut["documents"], cut["bytes"])
    results = []
    for folder, chunks in ((one, whole["chunks"]), (many, cut["chunks"])):
        total: Counter[str] = Counter()
        for number, chunk in enumerate(chunks):
            done = publish_chunk(
                out=folder / "out", scratch=str(folder), chunk=chunk, number=number, duplicates=[], lines_before=0
            )
            total.update(done["kept"])
            total.update(done["dropped"])
        tables = [pq.read_table(f) for f in sorted((folder / "out/documents/train").glob("*.parquet"))]
        results.append((total, [row for t in tables for row in t.to_pylist()]))
    assert results[0] == results[1]
    assert results[0][0]["too_short"] == 10


def test_a_part_without_records_writes_nothing(tmp_path):
    done = part(tmp_path, "\n\n", CorpusConfig())
    assert done["chunks"] == []
    assert done["documents"] == 0


def test_lines_are_counted_in_cut_slices_only(tmp_path):
    assert part(tmp_path, "a\nb\nc\n", CorpusConfig())["lines"] == 0
    assert part(tmp_path, "a\nb\nc\n", CorpusConfig(), start=2, end=6)["lines"] == 2
