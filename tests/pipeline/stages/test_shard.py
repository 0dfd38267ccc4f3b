"""The shard stage on what the vocab stage left, run in this process."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.errors import UserError
from components.shard.config import ShardConfig
from components.shard.tokens import load_documents, read_index
from components.vocab.tokenizer import load_tokenizer
from pipeline.config import Config
from pipeline.stages.shard import SHARD
from tests.pipeline.contexts import context
from tests.pipeline.stages.test_vocab import SMALL, brown_splits, chinese_splits, clean_artifact, run_vocab


def run_shard(folder: Path, clean: Path, vocab: Path, **settings: Any) -> tuple[dict[str, Any], Path]:
    config = Config(shard=ShardConfig(**settings))
    ctx = context(folder / "shard", SHARD, config, {"clean": clean, "vocab": vocab})
    return SHARD.run(ctx), ctx.out


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_every_document_is_its_tokens_in_corpus_order(kind: str, tmp_path: Path) -> None:
    splits = chinese_splits()
    clean = clean_artifact(tmp_path / "clean", splits, spaceless=True, part_documents=3)
    _, vocab = run_vocab(tmp_path, clean, kind=kind, size=300)
    _, out = run_shard(tmp_path, clean, vocab, row_group_documents=2)
    index, tokenizer = read_index(out), load_tokenizer(vocab / "tokenizer.json")
    assert index.vocab_size == 300
    for split, texts in splits.items():
        tokens, offsets = load_documents(out, index, split)
        read = [ids.tolist() for ids in np.split(tokens, offsets[1:-1])]
        assert read == [tokenizer.encode(text) for text in texts]
        assert index.splits[split].words is None
        assert index.splits[split].bytes == sum(len(text.encode()) + 1 for text in texts)


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        clean = clean_artifact(tmp_path / name / "clean", chinese_splits(), part_documents=3)
        _, vocab = run_vocab(tmp_path / name, clean, size=300)
        _, out = run_shard(tmp_path / name, clean, vocab)
        found.append({path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()})
    assert found[0] == found[1]
    assert len(found[0]) == 9  # parts of three documents: 6 train, 1 valid, 1 test; and the index


def test_figures_and_metrics(tmp_path: Path) -> None:
    clean = clean_artifact(tmp_path / "clean", SMALL)
    _, vocab = run_vocab(tmp_path, clean, kind="word", size=4)
    metrics, out = run_shard(tmp_path, clean, vocab)
    assert metrics == {
        "documents_train": 2,
        "tokens_train": 9,
        "documents_valid": 1,
        "tokens_valid": 4,
        "documents_test": 1,
        "tokens_test": 2,
    }
    valid = read_index(out).splits["valid"]
    assert (valid.unknown, valid.words, valid.lines, valid.bytes) == (2, 4, 1, len("the  fog rolls\n"))


def test_a_split_without_tokens_is_told(tmp_path: Path) -> None:
    for texts in ([], ["\n"]):
        folder = tmp_path / str(len(texts))
        clean = clean_artifact(folder / "clean", {**SMALL, "valid": texts})
        _, vocab = run_vocab(folder, clean)
        with pytest.raises(UserError, match=r"valid split has no tokens.*corpus\.valid"):
            run_shard(folder, clean, vocab)


def test_lost_documents_fail_loudly(tmp_path: Path) -> None:
    clean = clean_artifact(tmp_path / "clean", SMALL)
    _, vocab = run_vocab(tmp_path, clean)
    funnel = json.loads((clean / "funnel.json").read_text())
    funnel["kept"]["train"] += 1
    (clean / "funnel.json").write_text(json.dumps(funnel))
    with pytest.raises(AssertionError, match="train"):
        run_shard(tmp_path, clean, vocab)


@pytest.mark.data
def test_brown(tmp_path: Path) -> None:
    clean = clean_artifact(tmp_path / "clean", brown_splits(), pretokenized=True, part_documents=100)
    _, vocab = run_vocab(tmp_path, clean, kind="word", min_count=3)
    _, out = run_shard(tmp_path, clean, vocab)
    index = read_index(out)
    assert {split: index.splits[split].tokens for split in index.splits} == {
        "train": 801_495,
        "valid": 199_841,
        "test": 173_689,
    }
    for split in index.splits.values():
        assert split.words == split.tokens
    size = sum((out / file.path).stat().st_size for file in index.splits["train"].files)
    assert size * 8 / 801_495 < 14  # bits per token on disk
