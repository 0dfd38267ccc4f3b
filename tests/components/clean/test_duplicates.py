from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.clean.duplicates import (
    bucket_count,
    bucket_file,
    duplicates_of,
    find_duplicates,
    text_hash,
    write_hashes,
)

SPLITS = ["train", "valid", "test", None]
Row = tuple[bytes, int, int]


def obvious(rows: list[Row], sources: list[list[str | None]]) -> dict[tuple[int, int], str]:
    """The first of the protected, else the first of all, and what repeats it."""
    first: dict[bytes, tuple[int, int]] = {}
    repeats = {}
    guarded = [row for row in rows if sources[row[1]][1] in ("valid", "test")]
    free = [row for row in rows if row not in guarded]
    for content, *place in sorted(guarded, key=lambda r: r[1:]):
        first.setdefault(content, tuple(place))
    for content, *place in sorted(free, key=lambda r: r[1:]):
        original = first.setdefault(content, tuple(place))
        if original != tuple(place):
            repeats[tuple(place)] = f"{sources[original[0]][0]}#{original[1]}"
    return repeats


def found(folder: Path, chunks: list[list[Row]], sources: list[list[str | None]], buckets: int) -> list[str]:
    files = []
    for number, chunk in enumerate(chunks):
        files.append(str(folder / f"{number}.npy"))
        write_hashes(Path(files[-1]), chunk)
    for bucket in range(buckets):
        find_duplicates(out=folder, hashes=files, bucket=bucket, buckets=buckets, sources=sources)
    return [str(folder / bucket_file(bucket)) for bucket in range(buckets)]


@settings(max_examples=60, deadline=None)
@given(
    contents=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3)), max_size=40),
    cut=st.integers(0, 40),
    buckets=st.sampled_from([1, 2, 3, 7, 64]),
)
def test_duplicates_are_those_of_the_obvious_search(tmp_path_factory, contents, cut, buckets):
    sources = [[f"s{i}", split] for i, split in enumerate(SPLITS)]
    rows = [(text_hash(str(text)), source, offset) for offset, (text, source) in enumerate(contents)]
    files = found(tmp_path_factory.mktemp("buckets"), [rows[:cut], rows[cut:]], sources, buckets)
    assert duplicates_of(files, (0, 0), (len(SPLITS), 0)) == obvious(rows, sources)


def test_hashes_at_the_edges_of_buckets_are_seen_once(tmp_path):
    edges = [0, 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
    rows = [(edge.to_bytes(8) + bytes(8), 0, i) for i, edge in enumerate(edges * 2)]
    for buckets in (1, 2, 3, 4):
        files = found(tmp_path, [rows], [["a", None]], buckets)
        assert sum(pq.read_metadata(file).num_rows for file in files) == len(edges)


def test_only_the_asked_places_are_read(tmp_path):
    rows = [(text_hash("same"), 0, offset) for offset in range(0, 100, 10)]
    files = found(tmp_path, [rows], [["a", None]], 1)
    assert sorted(duplicates_of(files, (0, 30), (0, 50))) == [(0, 30), (0, 40), (0, 50)]
    assert duplicates_of([], (0, 0), (9, 9)) == {}


@pytest.mark.parametrize("half", [slice(0, 8), slice(8, 16)])
def test_half_a_hash_is_not_enough(tmp_path, half):
    one = bytearray(range(16))
    two = bytearray(range(16))
    two[half] = bytes(8)
    assert (
        duplicates_of(found(tmp_path, [[(bytes(one), 0, 0), (bytes(two), 0, 1)]], [["a", None]], 2), (0, 0), (0, 9))
        == {}
    )


def test_bucket_count_grows_with_the_corpus():
    assert bucket_count(0) == bucket_count(1 << 20) == 1
    assert bucket_count(10 << 30) == 41
