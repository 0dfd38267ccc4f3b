"""Tiny artifacts of the earlier stages, as they lie in a store, around a model with random weights."""

import json
import random
from pathlib import Path

from tokenizers import pre_tokenizers, trainers

from components.documents import SPLITS, Document, document_files, write_documents
from components.model.config import ModelConfig
from components.model.folder import save_model
from components.model.recurrent import RecurrentLM
from components.shard.tokens import Index, ShardFile, SplitIndex, token_dtype, write_index
from components.shard.writing import encode_documents
from components.vocab.tokenizer import (
    BpeTokenizer,
    CharTokenizer,
    Tokenizer,
    WordTokenizer,
    byte_level_bpe,
    save_tokenizer,
)

WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "bird",
    "sees",
    "hears",
    "old",
    "small",
    "house",
    "tree",
    "and",
    "in",
    "near",
    ".",
    ",",
]


def word_tokenizer() -> Tokenizer:
    return WordTokenizer(WORDS, lowercase=False, pretokenized=True)


def char_tokenizer(texts: list[str]) -> Tokenizer:
    return CharTokenizer(sorted({c for text in texts for c in text if c != "\n"}), lowercase=False)


def bpe_tokenizer(texts: list[str], size: int = 300) -> Tokenizer:
    bpe = byte_level_bpe()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(texts, trainer)
    return BpeTokenizer(bpe, lowercase=False)


def random_texts(count: int, *, seed: int, longest: int = 40) -> list[str]:
    """Documents of one to four lines; about one word in twenty is unknown."""
    rng = random.Random(seed)

    def line() -> str:
        return " ".join(rng.choice(WORDS) if rng.random() > 0.05 else "zebra" for _ in range(rng.randint(1, longest)))

    return ["\n".join(line() for _ in range(rng.randint(1, 4))) for _ in range(count)]


def make_clean(folder: Path, texts: dict[str, list[str]], *, spaceless: bool = False, files: int = 1) -> Path:
    for split in SPLITS:
        documents = [
            Document(id=f"{split}.txt#{i}", text=text, source=f"{split}.txt", offset=i)
            for i, text in enumerate(texts[split])
        ]
        size = -(-len(documents) // files)
        for number, first in enumerate(range(0, len(documents), size)):
            path = folder / "documents" / split / f"part-{number:05d}.parquet"
            write_documents(path, documents[first : first + size])
    kept = {split: len(texts[split]) for split in SPLITS}
    funnel = {
        "documents_in": sum(kept.values()) + 18,
        "kept": kept,
        "dropped": {"duplicate": 12, "too_short": 5},
        "quarantined": 1,
        "spaceless": spaceless,
    }
    (folder / "funnel.json").write_text(json.dumps(funnel))
    return folder


def make_shard(folder: Path, clean: Path, tokenizer: Tokenizer, *, spaceless: bool = False) -> Path:
    folder.mkdir(parents=True)
    save_tokenizer(tokenizer, folder / "tokenizer.json")
    splits = {}
    for split in SPLITS:
        results = [
            encode_documents(
                out=folder,
                documents=str(file),
                split=split,
                part=part,
                tokenizer=str(folder / "tokenizer.json"),
                row_group_documents=16,
            )
            for part, file in enumerate(document_files(clean, split))
        ]
        counts = {
            name: sum(result[name] for result in results)
            for name in ("documents", "tokens", "unknown", "bytes", "words", "lines")
        }
        files = tuple(ShardFile(**result["file"]) for result in results)
        splits[split] = SplitIndex(**{**counts, "words": None if spaceless else counts["words"]}, files=files)
    write_index(folder, Index(dtype=token_dtype(tokenizer.size), vocab_size=tokenizer.size, splits=splits))
    return folder


def make_model(folder: Path, tokenizer: Tokenizer, *, seed: int = 1, scale: float = 6.0) -> Path:
    """A model with weights large enough that its distributions are far from flat."""
    config = ModelConfig(cell="lstm", layers=2, embedding_size=12, hidden_size=16, tied=True, dropout=0.5)
    model = RecurrentLM(config, tokenizer.size, seed=seed)
    for parameter in model.parameters():
        parameter.data.mul_(scale)
    save_model(folder, model, tokenizer)
    return folder


def make_train(folder: Path, tokenizer: Tokenizer) -> Path:
    make_model(folder / "model", tokenizer)
    rows = []
    for step in range(1, 301):
        rows.append({"step": step, "epoch": step // 100, "loss": 2 + 3 / step, "time": 1.0, "world_size": 1})
        if step % 100 == 0:
            rows.append({"step": step, "epoch": step // 100, "valid_loss": 2.1, "valid_perplexity": 8.2})
    rows.append({"event": "resumed", "step": 200, "world_size": 1})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def make_vocab(folder: Path, tokenizer: Tokenizer) -> Path:
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({"kind": tokenizer.kind, "size": tokenizer.size}))
    return folder
