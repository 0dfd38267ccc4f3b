"""Small training jobs on token shards made here."""

import hashlib
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.model.config import ModelConfig
from components.shard.tokens import Index, ShardFile, SplitIndex, token_dtype, write_index
from components.train.config import TrainConfig
from components.train.job import TrainJob, write_job
from components.vocab.tokenizer import EOS, WordTokenizer, save_tokenizer

WORDS = 30
MODEL = {"layers": 2, "embedding_size": 16, "hidden_size": 24, "dropout": 0.2}
TRAIN = {"batch_size": 4, "bptt": 8, "epochs": 2, "learning_rate": 0.01}


def documents(count: int, seed: int) -> list[list[int]]:
    """Sentences in which each word tells a lot about the next one."""
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        document: list[int] = []
        for _ in range(rng.randint(1, 4)):
            word = rng.randrange(WORDS)
            for _ in range(rng.randint(2, 8)):
                document.append(2 + word)
                word = (3 * word + rng.randrange(2)) % WORDS
            document.append(EOS)
        made.append(document)
    return made


def make_shard(folder: Path, splits: dict[str, list[list[int]]] | None = None) -> None:
    """A shard artifact and `tokenizer.json` in the same folder."""
    splits = splits or {"train": documents(60, 1), "valid": documents(11, 2), "test": documents(11, 3)}
    size = WORDS + 2
    listed = {}
    for split, rows in splits.items():
        name = f"tokens/{split}/part-00000.parquet"
        path = folder / name
        path.parent.mkdir(parents=True)
        schema = pa.schema([("id", pa.string()), ("tokens", pa.list_(pa.type_for_alias(token_dtype(size))))])
        ids = [f"made#{i}" for i in range(len(rows))]
        pq.write_table(pa.table({"id": ids, "tokens": rows}, schema=schema), path, write_page_checksum=True)
        tokens = sum(len(row) for row in rows)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        file = ShardFile(path=name, documents=len(rows), tokens=tokens, sha256=sha256)
        listed[split] = SplitIndex(
            documents=len(rows), tokens=tokens, unknown=0, bytes=tokens, words=tokens, lines=1, files=(file,)
        )
    write_index(folder, Index(dtype=token_dtype(size), vocab_size=size, splits=listed))
    tokenizer = WordTokenizer([f"w{i}" for i in range(WORDS)], lowercase=False, pretokenized=True)
    save_tokenizer(tokenizer, folder / "tokenizer.json")


def make_job(
    folder: Path,
    shard: Path,
    *,
    model: dict[str, Any] | None = None,
    train: dict[str, Any] | None = None,
    **changes: Any,
) -> TrainJob:
    """A job with its own work and out folders, written to `folder/job.json`."""
    out = folder / "out"
    out.mkdir(parents=True, exist_ok=True)
    job = TrainJob(
        shard=shard,
        tokenizer=shard / "tokenizer.json",
        work=folder / "work",
        out=out,
        model=ModelConfig(**MODEL | (model or {})),
        train=TrainConfig(**TRAIN | (train or {})),
        **{"checkpoint_minutes": 0.0, "fingerprint": "f" * 64} | changes,
    )
    write_job(folder / "job.json", job)
    return job
