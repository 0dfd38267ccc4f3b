"""The vocab stage on real documents, run in this process."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from components.documents import Document, write_documents
from components.errors import UserError
from components.vocab.config import VocabConfig
from components.vocab.tokenizer import load_tokenizer
from pipeline.config import Config
from pipeline.stages.vocab import VOCAB
from tests.pipeline.contexts import context

CHINESE = Path(__file__).parents[2] / "fixtures" / "chinese.txt"
BROWN = Path(__file__).parents[4] / "shared" / "data" / "brown"
SMALL = {"train": ["the lake\nthe fog", "a lake"], "valid": ["the  fog rolls"], "test": ["in"]}


def clean_artifact(
    folder: Path,
    splits: dict[str, list[str]],
    *,
    pretokenized: bool = False,
    spaceless: bool = False,
    part_documents: int = 1,
) -> Path:
    """What the clean stage would leave: documents in parts, and the facts that later stages read."""
    for split, texts in splits.items():
        for part, start in enumerate(range(0, len(texts), part_documents)):
            documents = [
                Document(id=f"{split}.txt#{i}", text=text, source=f"{split}.txt", offset=i)
                for i, text in enumerate(texts[start : start + part_documents], start)
            ]
            write_documents(folder / "documents" / split / f"part-{part:05d}.parquet", documents)
    kept = {split: len(texts) for split, texts in splits.items()}
    funnel = {"kept": kept, "pretokenized": pretokenized, "spaceless": spaceless}
    (folder / "funnel.json").parent.mkdir(parents=True, exist_ok=True)
    (folder / "funnel.json").write_text(json.dumps(funnel))
    return folder


def chinese_splits() -> dict[str, list[str]]:
    blocks = CHINESE.read_text(encoding="utf-8").strip().split("\n\n")
    return {"train": blocks[:-4], "valid": blocks[-4:-2], "test": blocks[-2:]}


def brown_splits() -> dict[str, list[str]]:
    if not BROWN.exists():
        pytest.skip(f"{BROWN} is not there")
    read = {split: (BROWN / f"{split}.txt").read_text(encoding="utf-8") for split in ("train", "valid", "test")}
    return {split: [block for block in text.split("\n\n") if block.strip()] for split, text in read.items()}


def run_vocab(folder: Path, clean: Path, **settings: Any) -> tuple[dict[str, Any], Path]:
    ctx = context(folder, VOCAB, Config(vocab=VocabConfig(**settings)), {"clean": clean})
    return VOCAB.run(ctx), ctx.out


def test_a_word_vocabulary_in_all_its_files(tmp_path: Path) -> None:
    clean = clean_artifact(tmp_path / "clean", SMALL)
    metrics, out = run_vocab(tmp_path, clean, kind="word", size=5, lowercase=True)
    assert metrics == {
        "size": 5,
        "types": 4,
        "tokens_train": 9,
        "coverage_valid": 1 / 3,
        "coverage_test": 0,
        "fertility_train": 1,
    }
    assert load_tokenizer(out / "tokenizer.json").to_json()["tokens"] == ["lake", "the", "a"]
    assert pq.read_table(out / "counts.parquet").to_pylist() == [
        {"token": "lake", "count": 2},
        {"token": "the", "count": 2},
        {"token": "a", "count": 1},
        {"token": "fog", "count": 1},
    ]
    report = json.loads((out / "vocab.json").read_text())
    assert report["tokens"] == {"train": 9, "valid": 4, "test": 2}
    assert report["coverage"]["train"] == 5 / 6
    assert sorted(path.name for path in out.rglob("*")) == ["counts.parquet", "tokenizer.json", "vocab.json"]


@pytest.mark.parametrize("kind", ["word", "char", "bpe"])
def test_the_files_have_the_same_bytes_however_the_corpus_is_cut(kind: str, tmp_path: Path) -> None:
    found = set()
    for part_documents in (1, 3, 100, 3):
        folder = tmp_path / f"{len(found)}-{part_documents}"
        clean = clean_artifact(folder / "clean", chinese_splits(), spaceless=True, part_documents=part_documents)
        _, out = run_vocab(folder, clean, kind=kind, size=300)
        found.add(tuple((out / name).read_bytes() for name in ("tokenizer.json", "counts.parquet", "vocab.json")))
    assert len(found) == 1


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_chinese(kind: str, tmp_path: Path) -> None:
    clean = clean_artifact(tmp_path / "clean", chinese_splits(), spaceless=True)
    metrics, out = run_vocab(tmp_path, clean, kind=kind, size=300)
    assert metrics["size"] == 300
    assert metrics["fertility_train"] is None
    tokenizer = load_tokenizer(out / "tokenizer.json")
    if kind == "bpe":
        assert metrics["coverage_test"] == 1
        [text, *_] = chinese_splits()["test"]
        assert tokenizer.decode(tokenizer.encode(text)) == text
    else:
        assert 0.6 < metrics["coverage_test"] < 1
        assert tokenizer.token(2) in "，的。"


@pytest.mark.parametrize("kind", ["word", "char", "bpe"])
def test_a_vocabulary_larger_than_the_corpus_gives_is_told(kind: str, tmp_path: Path) -> None:
    clean = clean_artifact(tmp_path / "clean", SMALL)
    metrics, _ = run_vocab(tmp_path / "open", clean, kind=kind)
    with pytest.raises(UserError, match=rf"gives only {metrics['size']} tokens; set vocab.size to {metrics['size']}"):
        run_vocab(tmp_path / "asked", clean, kind=kind, size=1000)


@pytest.mark.parametrize("texts", [[], ["", "\n \n"]])
def test_an_empty_train_split_is_told(texts: list[str], tmp_path: Path) -> None:
    clean = clean_artifact(tmp_path / "clean", {**SMALL, "train": texts})
    with pytest.raises(UserError, match="train split is empty"):
        run_vocab(tmp_path, clean)


def test_a_min_count_that_keeps_nothing_is_told(tmp_path: Path) -> None:
    clean = clean_artifact(tmp_path / "clean", SMALL)
    with pytest.raises(UserError, match=r"vocab\.min_count = 3"):
        run_vocab(tmp_path, clean, kind="word", min_count=3)


@pytest.mark.data
def test_brown(tmp_path: Path) -> None:
    clean = clean_artifact(tmp_path / "clean", brown_splits(), pretokenized=True, part_documents=100)
    metrics, out = run_vocab(tmp_path, clean, kind="word", min_count=3)
    report = json.loads((out / "vocab.json").read_text())
    assert report["tokens"] == {"train": 801_495, "valid": 199_841, "test": 173_689}
    assert report["fertility"] == {"train": 1, "valid": 1, "test": 1}
    frequent = sum(row["count"] >= 3 for row in pq.read_table(out / "counts.parquet").to_pylist())
    assert metrics["size"] == frequent + 2
    assert 0.9 < report["coverage"]["test"] < report["coverage"]["train"] < 0.98
