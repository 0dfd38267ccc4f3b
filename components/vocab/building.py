"""The tokenizer that counts decide."""

from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from components.documents import write_table
from components.vocab.config import RESERVED, VocabConfig
from components.vocab.counting import read_counts
from components.vocab.tokenizer import (
    UNK,
    BpeTokenizer,
    CharTokenizer,
    Tokenizer,
    WordTokenizer,
    byte_level_bpe,
    save_tokenizer,
)


def build_vocabulary(*, out: Path, counts: list[str], config: VocabConfig, pretokenized: bool) -> dict[str, Any]:
    """Write `tokenizer.json` and `counts.parquet` from merged counts. Returns {"size", "types"}.

    The vocabulary is smaller than `config.most` where the text does not give more.
    """
    table = read_counts(counts)
    write_table(out / "counts.parquet", table)
    tokenizer = build_tokenizer(table, config, pretokenized=pretokenized)
    save_tokenizer(tokenizer, out / "tokenizer.json")
    return {"size": tokenizer.size, "types": len(table)}


def build_tokenizer(counts: pa.Table, config: VocabConfig, *, pretokenized: bool) -> Tokenizer:
    """The tokenizer for counts in falling order; equal counts give an equal tokenizer."""
    if config.kind == "bpe":
        return _train_bpe(counts, config)
    often = counts.filter(pc.field("count") >= config.min_count)["token"]
    if config.kind == "char":
        kept = often.slice(0, config.most - len(RESERVED)).to_pylist()
        return CharTokenizer(kept, lowercase=config.lowercase)
    unknown = RESERVED[UNK] if pretokenized else None
    kept = [token for token in often.slice(0, config.most).to_pylist() if token != unknown]
    kept = kept[: config.most - len(RESERVED)]
    return WordTokenizer(kept, lowercase=config.lowercase, pretokenized=pretokenized)


def _train_bpe(counts: pa.Table, config: VocabConfig) -> BpeTokenizer:
    from tokenizers import pre_tokenizers, trainers

    trainer = trainers.BpeTrainer(
        vocab_size=config.most - len(RESERVED),
        min_frequency=config.min_count,
        special_tokens=[],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe = byte_level_bpe()
    bpe.train_from_iterator(_as_often_as_counted(counts), trainer)
    return BpeTokenizer(bpe, lowercase=config.lowercase)


def _as_often_as_counted(counts: pa.Table) -> Iterator[str]:
    """Each unit as often as it was counted: the trainer takes no weights."""
    for batch in counts.to_batches(max_chunksize=4096):
        for unit, count in zip(batch["token"].to_pylist(), batch["count"].to_pylist(), strict=True):
            yield from repeat(unit, count)
