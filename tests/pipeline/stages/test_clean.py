import functools
import gzip
import json
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from components.clean import read
from components.clean.config import CleanConfig, CorpusConfig
from components.documents import SPLITS, document_files, read_documents
from components.errors import UserError
from pipeline.config import Config
from pipeline.stages.clean import CLEAN
from tests.pipeline.contexts import context

DATA = Path(__file__).parents[4] / "shared" / "data"


def run(folder: Path, *, clean: CleanConfig | None = None, **corpus) -> dict:
    config = Config(corpus=CorpusConfig(**corpus), clean=clean or CleanConfig())
    CLEAN.check(config)
    metrics = CLEAN.run(context(folder, CLEAN, config))
    assert json.loads(json.dumps(metrics)) == metrics
    return json.loads((folder / "out/funnel.json").read_text())


def documents(folder: Path, split: str) -> list:
    return [d for file in document_files(folder / "out", split) for d in read_documents(file)]


def texts(folder: Path, split: str) -> list[str]:
    return [d.text for d in documents(folder, split)]


def dropped(folder: Path) -> dict[str, tuple[str, str | None]]:
    rows = [row for f in sorted((folder / "out/dropped").glob("*.parquet")) for row in pq.read_table(f).to_pylist()]
    return {row["id"]: (row["reason"], row["duplicate_of"]) for row in rows}


def write(path: Path, content: str | bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def explicit(folder: Path, train: str, valid: str, test: str) -> dict[str, tuple[str]]:
    contents = {"train": train, "valid": valid, "test": test}
    return {split: (write(folder / f"{split}.txt", text),) for split, text in contents.items()}


def numbered(n: int) -> str:
    return "\n\n".join(f"text {i}" for i in range(n))


def data_files(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def test_every_record_is_kept_dropped_or_quarantined(tmp_path):
    source = numbered(300) + "\n\ntext  7 \r\n\r\nte\n\n\x00\u200b\n\nbad "
    write(tmp_path / "in/a.txt", source.encode() + b"\xff")
    write(tmp_path / "in/b.jsonl", '{"text": "text 8"}\n{"text": ""}\n{"text": "new"}\n{"x"')
    funnel = run(tmp_path, paths=(str(tmp_path / "in"),), clean=CleanConfig(min_chars=3))
    assert funnel["documents_in"] == 308
    assert funnel["dropped"] == {"empty": 2, "too_short": 1, "duplicate": 2}
    assert funnel["quarantined"] == 2
    assert sum(funnel["kept"].values()) == 301
    assert all(funnel["kept"].values())
    assert {s: len(documents(tmp_path, s)) for s in SPLITS} == funnel["kept"]
    kept_bytes = {s: sum(len(t.encode()) for t in texts(tmp_path, s)) for s in SPLITS}
    assert kept_bytes == funnel["bytes_kept"]
    lost = dropped(tmp_path)
    start = source.encode().index(b"text  7")
    assert lost[f"a.txt#{start}"] == ("duplicate", f"a.txt#{source.index('text 7')}")
    assert lost["b.jsonl#0"] == ("duplicate", f"a.txt#{source.index('text 8')}")
    assert sorted(reason for reason, _ in lost.values()) == ["duplicate", "duplicate", "empty", "empty", "too_short"]
    quarantine = [
        json.loads(line) for f in sorted((tmp_path / "out/quarantine").iterdir()) for line in f.open(encoding="utf-8")
    ]
    assert [(bad["source"], bad["line"], bad["reason"]) for bad in quarantine] == [
        ("a.txt", 607, "not valid UTF-8"),
        ("b.jsonl", 4, "not valid JSON"),
    ]
    assert [(s["name"], s["split"], len(s["sha256"])) for s in funnel["sources"]] == [
        ("a.txt", None, 64),
        ("b.jsonl", None, 64),
    ]
    assert (funnel["pretokenized"], funnel["spaceless"]) == (False, False)


def test_explicit_valid_and_test_are_never_altered(tmp_path):
    train = "only train\n\nin valid\n\nonly train\n\nin  test\u00a0\n\nx"
    splits = explicit(tmp_path, train, "in valid\n\nin valid\n\ny", "in\ttest \n\nin valid\n\n\x00\n\nz")
    funnel = run(tmp_path, **splits, clean=CleanConfig(min_chars=5))
    assert texts(tmp_path, "train") == ["only train"]
    assert texts(tmp_path, "valid") == ["in valid", "in valid", "y"]
    assert texts(tmp_path, "test") == ["in\ttest ", "in valid", "z"]
    reasons = dropped(tmp_path)
    assert reasons["train.txt#12"] == ("duplicate", "valid.txt#0")
    assert reasons["train.txt#22"] == ("duplicate", "train.txt#0")
    assert reasons["train.txt#34"] == ("duplicate", "test.txt#0")
    assert funnel["dropped"] == {"empty": 1, "too_short": 1, "duplicate": 3}


def test_pretokenized_text_is_taken_as_it_is(tmp_path):
    text = "a  <unk> \x00 b \r\n\tc\r\n\r\na  <unk> \x00 b \r\n\tc\r\n\r\nd"
    funnel = run(tmp_path, **explicit(tmp_path, text, "d", "d"), pretokenized=True, clean=CleanConfig(min_chars=50))
    assert texts(tmp_path, "train") == ["a  <unk> \x00 b \n\tc", "a  <unk> \x00 b \n\tc", "d"]
    assert funnel["dropped"] == {"empty": 0, "too_short": 0, "duplicate": 0}
    assert funnel["pretokenized"]


def test_duplicates_stay_where_they_are_wanted(tmp_path):
    path = write(tmp_path / "a.txt", "\n\n".join(["again"] * 2 + [f"text {i}" for i in range(200)]))
    assert run(tmp_path, paths=(path,), clean=CleanConfig(duplicates=False))["dropped"]["duplicate"] == 0


@pytest.mark.parametrize("document", ["line", "block"])
def test_cut_files_give_the_documents_of_whole_ones(tmp_path, monkeypatch, document):
    content = (numbered(400) + "\n\n" + numbered(450)).encode() + b"\n\n\xff\n\n" + b'tail \n\n "end'
    write(tmp_path / "in/a.txt", content)
    write(tmp_path / "in/b.txt", numbered(460))
    settings = {"paths": (str(tmp_path / "in"),), "document": document}
    whole = run(tmp_path / "whole", **settings)
    monkeypatch.setattr(read, "slices", functools.partial(read.slices, part_bytes=300))
    monkeypatch.setattr("components.clean.duplicates.BUCKET_BYTES", 1000)
    cut = run(tmp_path / "cut", **settings)
    assert cut == whole
    assert len(document_files(tmp_path / "cut/out", "train")) > 10
    for split in SPLITS:
        assert documents(tmp_path / "cut", split) == documents(tmp_path / "whole", split)
    assert dropped(tmp_path / "cut") == dropped(tmp_path / "whole")
    (bad,) = (tmp_path / "cut/out/quarantine").iterdir()
    (same,) = (tmp_path / "whole/out/quarantine").iterdir()
    assert bad.read_text() == same.read_text()


def test_the_same_bytes_wherever_the_corpus_lies(tmp_path):
    outs, worlds = [], []
    for place in ("here", "there/deep"):
        for name in ("b", "a", "c"):
            write(tmp_path / place / "in" / f"{name}.txt", f"{numbered(60)}\n\n{name}")
        paths = (str(tmp_path / place / "in"),)
        run(tmp_path / place, paths=paths)
        outs.append(data_files(tmp_path / place / "out"))
        worlds.append(CLEAN.world(Config(corpus=CorpusConfig(paths=paths))))
    assert outs[0] == outs[1]
    assert worlds[0] == worlds[1]
    assert [row[:2] for row in worlds[0]["sources"]] == [[None, "a.txt"], [None, "b.txt"], [None, "c.txt"]]
    write(tmp_path / "here/in/c.txt", numbered(61))
    assert CLEAN.world(Config(corpus=CorpusConfig(paths=(str(tmp_path / "here/in"),)))) != worlds[0]


def test_chinese(tmp_path):
    path = write(tmp_path / "名 字.txt", "\n\n".join(f"第{i}篇文章。\r\n深度学习　模型" for i in range(100)))
    funnel = run(tmp_path, paths=(path,))
    assert funnel["spaceless"]
    assert documents(tmp_path, "train")[0].id == "名 字.txt#0"
    assert texts(tmp_path, "train")[0] == "第0篇文章。\n深度学习 模型"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("document", ["line", "block", "file"])
def test_hostile_files_among_good_ones(tmp_path, document):
    good = "\n\n".join(f"good {i}" for i in range(300))
    for i in range(40):
        write(tmp_path / f"in/{i:02d} good ü.txt", good.replace("good", f"good{i}"))
    write(tmp_path / "in/empty.txt", "")
    write(tmp_path / "in/blank.txt", "\n" * 1_000_000)
    write(tmp_path / "in/long.txt", "x" * (20 << 20))
    write(tmp_path / "in/nul.txt", b"\0" * 1000)
    write(tmp_path / "in/mark.txt", b"\xef\xbb\xbfmarked\r\n")
    write(tmp_path / "in/half.txt.gz", gzip.compress(good.encode())[:-20])
    write(tmp_path / "in/half.jsonl", '{"text": "whole"}\n{"text": "ha')
    write(tmp_path / "in/bad.txt", b"before\n\nin \xc3\x28 the middle\n\nafter")
    settings = {"paths": (str(tmp_path / "in"),), "document": document, "valid_fraction": 0.2, "test_fraction": 0.2}
    funnel = run(tmp_path, **settings, clean=CleanConfig(max_bad_fraction=0.1))
    assert funnel["quarantined"] == 3
    kept = {text for split in SPLITS for text in texts(tmp_path, split)}
    assert {"marked", "whole"} <= kept
    assert max(len(text) for text in kept) == 20 << 20
    assert ("before" in kept and "after" in kept) == (document != "file")


def refused(folder: Path, **settings) -> str:
    with pytest.raises(UserError) as error:
        run(folder, **settings)
    assert not (folder / "out/funnel.json").exists()
    return str(error.value)


def test_too_many_bad_records_are_refused_with_reasons_and_their_list(tmp_path, monkeypatch):
    monkeypatch.setattr(read, "slices", functools.partial(read.slices, part_bytes=50))
    path = write(tmp_path / "a.jsonl", '{"text": "x"}\n' * 98 + '{"x": 1}\n{"x": 1}\nnonsense\n')
    message = refused(tmp_path, paths=(path,))
    assert "3 of 101 records are malformed (no key 'text': 2, not valid JSON: 1), 1.85% of the bytes" in message
    listed = (tmp_path / "scratch/quarantine.jsonl").read_text().splitlines()
    assert str(tmp_path / "scratch/quarantine.jsonl") in message
    assert [json.loads(line)["line"] for line in listed] == [99, 100, 101]
    assert "records are malformed" not in refused(tmp_path, paths=(path,), clean=CleanConfig(max_bad_fraction=0.03))


def test_a_large_file_that_cannot_be_read_is_not_one_bad_record_of_many(tmp_path):
    write(tmp_path / "in/a.txt", numbered(1000))
    write(tmp_path / "in/b.txt", numbered(2000).replace("\n\n", "\n").encode("utf-16"))
    message = refused(tmp_path, paths=(str(tmp_path / "in"),))
    assert "1 of 1,001 records are malformed (not valid UTF-8: 1), 82.72% of the bytes, most in b.txt;" in message
    assert CleanConfig().max_bad_fraction == 0.01


@pytest.mark.parametrize("document", ["line", "block", "file"])
def test_a_gzip_that_breaks_off_is_told(tmp_path, document):
    for i in range(200):
        write(tmp_path / f"in/{i}.txt", f"good {i}\n\n" * 10)
    packed = gzip.compress("\n\n".join(f"text {i} {i * 7919 % 10007}" for i in range(5000)).encode())
    write(tmp_path / "in/half.txt.gz", packed[: len(packed) // 2])
    message = refused(tmp_path, paths=(str(tmp_path / "in"),), document=document)
    assert "records are malformed (damaged gzip: 1)" in message
    assert "most in half.txt.gz;" in message


@pytest.mark.parametrize("text", ["one", "one\n\ntwo"])
def test_a_corpus_too_small_to_split_is_told_what_helps(tmp_path, text):
    few = write(tmp_path / "few.txt", text)
    message = refused(tmp_path, paths=(few,))
    assert "need some tens" in message
    assert "corpus.train, corpus.valid and corpus.test" in message
    assert "fraction" not in message


def test_a_corpus_that_leaves_a_split_empty_is_refused(tmp_path):
    few = write(tmp_path / "few.txt", numbered(3))
    message = refused(tmp_path, paths=(few,))
    assert "none of the 3 documents left fell into valid" in message
    assert "raise corpus.valid_fraction (0.05)" in message
    assert "corpus.document=line" in message
    message = refused(tmp_path, paths=(few,), valid_fraction=0.499999, test_fraction=0.5)
    assert "train" in message
    assert "lower corpus.valid_fraction" in message
    many = write(tmp_path / "many.txt", numbered(100))
    message = refused(tmp_path, paths=(many,), clean=CleanConfig(min_chars=100))
    assert message == "all 100 documents were dropped (too_short 100); check the corpus and clean.min_chars"
    assert "holds no documents" in refused(tmp_path, paths=(write(tmp_path / "empty.txt", ""),))
    message = refused(tmp_path, **explicit(tmp_path, "same", "same", "same"))
    assert "no document of corpus.train is left (duplicate 1 of 3 documents were dropped)" in message
    assert "corpus.test" in refused(tmp_path, **explicit(tmp_path, "a", "b", " \n"))


def test_a_wrong_path_is_found_before_anything_runs(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        CLEAN.check(Config(corpus=CorpusConfig(paths=(str(tmp_path / "nowhere"),))))


def test_python_docs(tmp_path):
    started = time.process_time()
    funnel = run(tmp_path, source="python-docs")
    assert time.process_time() - started < 20
    assert sum(funnel["kept"].values()) > 7000
    assert funnel["quarantined"] == 0
    assert sum(funnel["bytes_kept"].values()) > 1_500_000


@pytest.mark.data
def test_brown(tmp_path):
    if not (DATA / "brown").exists():
        pytest.skip(f"{DATA}/brown is not there")
    paths = {split: (str(DATA / f"brown/{split}.txt"),) for split in SPLITS}
    funnel = run(tmp_path, **paths, pretokenized=True)
    assert sum(funnel["kept"].values()) == 500
    tokens = {
        split: sum(
            len(line.split()) + 1 for text in texts(tmp_path, split) for line in text.split("\n") if line.strip()
        )
        for split in SPLITS
    }
    assert tokens == {"train": 801_495, "valid": 199_841, "test": 173_689}
