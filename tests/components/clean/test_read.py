import gzip
import itertools
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.clean.config import CorpusConfig
from components.clean.read import BadRecord, Record, Slice, count_lines, lines_before, read_slice, slices
from components.clean.sources import Source


def piece(path: Path, start: int = 0, end: int | None = None) -> Slice:
    return Slice(source=0, name=path.name, path=str(path), split=None, start=start, end=end)


def read(path: Path, content: bytes, **corpus) -> list[Record | BadRecord]:
    path.write_bytes(content)
    return list(read_slice(piece(path), CorpusConfig(**corpus)))


def texts(records) -> list[str]:
    return [r.text for r in records if isinstance(r, Record)]


def bad(records) -> list[tuple[int, int, str]]:
    return [(r.offset, r.line, r.reason) for r in records if isinstance(r, BadRecord)]


# --- cuts ---------------------------------------------------------------------------------------------------------

raw_text = st.lists(
    st.sampled_from(
        [b"a", b"bb b", "é中".encode(), b"\n", b"\n\n", b"\r\n", b"\r", b" ", b"\t\n", b"\xff", b'{"text":"x"}']
    )
).map(b"".join)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cuts")


@settings(max_examples=400, deadline=None)
@given(
    content=raw_text,
    cuts=st.lists(st.integers(0, 60)),
    bom=st.booleans(),
    kind=st.sampled_from(["line", "block", "jsonl"]),
)
def test_any_cut_gives_the_records_of_no_cut(folder, content, cuts, bom, kind):
    corpus = CorpusConfig(document="line" if kind == "jsonl" else kind)
    path = folder / ("cut.jsonl" if kind == "jsonl" else "cut.txt")
    path.write_bytes(b"\xef\xbb\xbf" * bom + content)
    size = path.stat().st_size
    whole = list(read_slice(piece(path), corpus))
    edges = sorted({0, size, *(c for c in cuts if c < size)})
    parts = [[piece(path, *edge)] for edge in itertools.pairwise(edges)]
    before = lines_before(parts, [count_lines(part[0]) for part in parts])
    joined = [
        record._replace(line=record.line + lines) if isinstance(record, BadRecord) else record
        for part, lines in zip(parts, before, strict=True)
        for record in read_slice(part[0], corpus)
    ]
    assert joined == whole


@settings(deadline=None)
@given(content=raw_text)
def test_lines_and_blocks_are_those_of_the_obvious_reader(folder, content):
    path = folder / "plain.txt"
    content = content.replace(b"\xff", b"")
    lines = re.split("\r\n|\r|\n", content.decode())
    assert texts(read(path, content, document="line")) == [line for line in lines if line.strip()]
    blocks = "\n".join(line if line.strip() else "" for line in lines).strip("\n")
    assert texts(read(path, content, document="block")) == [b for b in re.split("\n\n+", blocks) if b]


def test_chunks_do_not_show(tmp_path, monkeypatch):
    content = "one\r\ntwo\r\rthree\n\r\n\r\nfour é中\r".encode()
    expected = read(tmp_path / "a.txt", content)
    for size in range(1, len(content)):
        monkeypatch.setattr("components.clean.read.CHUNK_BYTES", size)
        assert read(tmp_path / "a.txt", content) == expected
        assert list(read_slice(piece(tmp_path / "a.txt", 3, 9), CorpusConfig(document="line"))) == [Record(5, "two", 3)]


def test_parts_depend_on_sizes_only(tmp_path):
    def source(name: str, size: int) -> Source:
        return Source(name=name, path=f"/{name}", split=None, bytes=size)

    files = [source("a.txt", 3), source("b.txt", 4), source("c.jsonl", 25), source("d.txt.gz", 25), source("e.txt", 10)]
    shape = [[(s.name, s.start, s.end) for s in part] for part in slices(files, CorpusConfig(), part_bytes=10)]
    assert shape == [
        [("a.txt", 0, None), ("b.txt", 0, None)],
        [("c.jsonl", 0, 10)],
        [("c.jsonl", 10, 20)],
        [("c.jsonl", 20, 25)],
        [("d.txt.gz", 0, None)],
        [("e.txt", 0, None)],
    ]
    big = [source("a.txt", 25)]
    assert [[s.end for s in part] for part in slices(big, CorpusConfig(document="file"), part_bytes=10)] == [[None]]


# --- formats ------------------------------------------------------------------------------------------------------


def test_offsets_are_bytes_and_lead_back(tmp_path):
    content = "é1\n\n\n中2\nmore\r\n\r\nlast".encode()
    for record in read(tmp_path / "a.txt", content):
        assert content[record.offset :].startswith(record.text.split("\n")[0].encode())


def test_a_whole_file_is_one_document(tmp_path):
    assert read(tmp_path / "a.txt", b"\xef\xbb\xbfa\n\nb\n", document="file") == [Record(0, "a\n\nb\n", 5)]
    assert read(tmp_path / "a.txt", b"", document="file") == [Record(0, "", 0)]
    assert read(tmp_path / "a.txt", b"a\xff", document="file") == [BadRecord("a.txt", 0, 1, "not valid UTF-8", 2)]


@pytest.mark.parametrize("document", ["line", "block"])
def test_an_empty_file_and_a_mark_alone_hold_nothing(tmp_path, document):
    assert read(tmp_path / "a.txt", b"", document=document) == []
    assert read(tmp_path / "a.txt", b"\xef\xbb\xbf", document=document) == []
    assert read(tmp_path / "a.jsonl", b"\xef\xbb\xbf\n") == []


def test_gzip_reads_as_plain(tmp_path):
    content = "eins\n\nzwei é\n".encode() * 100
    assert read(tmp_path / "a.txt.gz", gzip.compress(content)) == read(tmp_path / "b.txt", content)
    two_members = gzip.compress(content[:50]) + gzip.compress(content[50:])
    assert read(tmp_path / "a.txt.gz", two_members) == read(tmp_path / "b.txt", content)


def test_a_mark_before_json(tmp_path):
    assert texts(read(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"text": "a"}\r\n{"text": "b"}')) == ["a", "b"]


def test_records_know_how_much_input_they_take(tmp_path):
    lines = [b'{"text": "a", "more": 1}', b'{"text": 3}', b'{"text": "']
    assert [r.bytes for r in read(tmp_path / "a.jsonl", b"\n".join(lines))] == [len(line) for line in lines]
    wide = "a\n\nb".encode("utf-16")
    assert [r.bytes for r in read(tmp_path / "a.txt", wide)] == [len(wide)]


def test_the_text_key(tmp_path):
    assert texts(read(tmp_path / "a.jsonl", b'{"text": "a", "body": "b"}', text_key="body")) == ["b"]


# --- hostile ------------------------------------------------------------------------------------------------------


def test_bad_json_is_quarantined_and_the_rest_is_read(tmp_path):
    lines = [
        b'{"text": "good"}',
        b'{"no": "text"}',
        b'["text"]',
        b'{"text": 3}',
        b'{"text": null}',
        b'{"text": "half \\ud800"}',
        b'{"text": "\xff"}',
        b"[" * 100_000,
        b'{"text": "a", "n": ' + b"1" * 5000 + b"}",
        b"",
        b'{"text": "also good"}',
        b'{"text": "half an obj',
    ]
    records = read(tmp_path / "a.jsonl", b"\n".join(lines))
    assert texts(records) == ["good", "also good"]
    assert [(line, reason) for _, line, reason in bad(records)] == [
        (2, "no key 'text'"),
        (3, "not a JSON object"),
        (4, "value of 'text' is not a string"),
        (5, "value of 'text' is not a string"),
        (6, "value of 'text' has half a surrogate pair"),
        (7, "not valid UTF-8"),
        (8, "not valid JSON"),
        (9, "not valid JSON"),
        (12, "not valid JSON"),
    ]
    assert bad(records)[0][0] == len(lines[0]) + 1


def test_bytes_that_are_not_utf8_spoil_their_document_only(tmp_path):
    content = b"first\n\nsecond\nbad \xff\xfe here\n\nthird"
    records = read(tmp_path / "a.txt", content)
    assert texts(records) == ["first", "third"]
    assert bad(records) == [(7, 3, "not valid UTF-8")]
    records = read(tmp_path / "a.txt", content, document="line")
    assert texts(records) == ["first", "second", "third"]
    assert bad(records) == [(14, 4, "not valid UTF-8")]


@pytest.mark.parametrize("document", ["line", "block", "file"])
def test_a_truncated_gzip_keeps_what_lies_before(tmp_path, document):
    lines = [f"line {i} {i * 7919 % 10007}" for i in range(30_000)]
    packed = gzip.compress("\n\n".join(lines).encode())
    records = read(tmp_path / "a.txt.gz", packed[: len(packed) // 2], document=document)
    assert records[-1].bytes == len(packed) // 2
    kept = texts(records)
    assert kept == lines[: len(kept)]
    assert len(kept) > 10_000 or document == "file"
    assert isinstance(records[-1], BadRecord)
    assert len(bad(records)) == 1
    if document != "file":
        assert records[-1].line == 2 * len(kept) + 1 or records[-1].line == 2 * len(kept) + 2


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"not gzip at all",
        gzip.compress(b"a\n\nb\n")[:-4] + b"\0\0\0\0",
        gzip.compress(b"a\n\nb\n")[:-6] + b"\1" * 6,
    ],
)
def test_damaged_gzip_is_one_bad_record(tmp_path, damage):
    records = read(tmp_path / "a.txt.gz", damage)
    assert [reason for *_, reason in bad(records)] == (["damaged gzip"] if damage else [])
    assert texts(read(tmp_path / "b.txt.gz", gzip.compress(b"a\n\nb\n\n") + b"garbage")) == ["a", "b"]


def test_control_bytes_are_text(tmp_path):
    assert texts(read(tmp_path / "a.txt", b"a\x00b\n\n\x00\n", document="line")) == ["a\x00b", "\x00"]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_a_million_empty_lines(tmp_path, end):
    records = read(tmp_path / "a.txt", end * 1_000_000 + b"text" + end)
    assert records == [Record(len(end) * 1_000_000, "text", 4)]


@pytest.mark.timeout(20)
def test_a_line_of_20_megabytes_cut_everywhere(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"x" * (20 << 20) + b"\n\nshort\n")
    found = [Source(name="a.txt", path=str(path), split=None, bytes=path.stat().st_size)]
    for document in ("line", "block"):
        corpus = CorpusConfig(document=document)
        records = [list(read_slice(s, corpus)) for part in slices(found, corpus) for s in part]
        assert [[len(r.text) for r in part] for part in records] == [[20 << 20], [], [5]]


def test_json_text_keeps_its_own_line_ends(tmp_path):
    record = json.dumps({"text": "a\r\n\r\nb"}).encode()
    assert texts(read(tmp_path / "a.jsonl", record)) == ["a\r\n\r\nb"]
