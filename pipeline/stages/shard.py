"""Shard: every document as token ids, and an index of what lies where."""

import json
from collections import Counter
from typing import Any

from components.documents import SPLITS, document_files
from components.errors import UserError
from components.shard.config import ShardConfig
from components.shard.tokens import Index, ShardFile, SplitIndex, token_dtype, write_index
from components.shard.writing import encode_documents
from components.vocab.tokenizer import load_tokenizer
from pipeline.stage import Json, Stage, StageContext


def run(ctx: StageContext) -> Json:
    """Encode every file of documents and list the shards."""
    clean, vocab = ctx.inputs["clean"], ctx.inputs["vocab"]
    funnel = json.loads((clean / "funnel.json").read_text(encoding="utf-8"))
    tokenizer = vocab / "tokenizer.json"
    vocab_size = load_tokenizer(tokenizer).size
    measured = json.loads((vocab / "vocab.json").read_text(encoding="utf-8"))["tokens"]
    config = ctx.section(ShardConfig)
    parts = [(split, part, file) for split in SPLITS for part, file in enumerate(document_files(clean, split))]
    items = [
        {
            "documents": str(file),
            "split": split,
            "part": part,
            "tokenizer": str(tokenizer),
            "row_group_documents": config.row_group_documents,
        }
        for split, part, file in parts
    ]
    encoded = ctx.map(encode_documents, items, name="encode")
    splits = {
        split: _split_index(
            [result for (its, _, _), result in zip(parts, encoded, strict=True) if its == split],
            spaceless=funnel["spaceless"],
        )
        for split in SPLITS
    }
    for split, index in splits.items():
        if not index.tokens:
            raise UserError(
                f"the {split} split has no tokens: give corpus.{split} text, or raise corpus.{split}_fraction"
            )
        found, expected = (index.documents, index.tokens), (funnel["kept"][split], measured[split])
        assert found == expected, f"{split} shards hold {found} documents and tokens instead of {expected}"
    write_index(ctx.out, Index(dtype=token_dtype(vocab_size), vocab_size=vocab_size, splits=splits))
    return {
        f"{figure}_{split}": getattr(splits[split], figure) for split in SPLITS for figure in ("documents", "tokens")
    }


def _split_index(results: list[dict[str, Any]], *, spaceless: bool) -> SplitIndex:
    total: Counter[str] = Counter()
    for result in results:
        total.update({figure: count for figure, count in result.items() if figure != "file"})
    return SplitIndex(
        documents=total["documents"],
        tokens=total["tokens"],
        unknown=total["unknown"],
        bytes=total["bytes"],
        words=None if spaceless else total["words"],
        lines=total["lines"],
        files=tuple(ShardFile(**result["file"]) for result in results),
    )


SHARD = Stage(name="shard", version=1, needs=("clean", "vocab"), sections=("shard",), run=run)
