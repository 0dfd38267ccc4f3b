"""How well a model predicts a split: exact, every token counted, each document on its own.

    shard ── slices ──► score_slice ──► scores/<first>.parquet ──► merge_scores ──► scores.parquet ──► figures
          └───────────► score_unigram (what knowing only how often each token occurs would give)

Losses are negative log-likelihoods in nats; torch is imported where a model is.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from components.documents import document_files, read_documents, write_table
from components.errors import UserError
from components.shard.tokens import Index, SplitIndex, load_documents, read_index

SLICE_TOKENS = 50_000
"""Tokens of a slice, whatever the number of workers, so that the same slices are scored everywhere."""

SCORE_SCHEMA = pa.schema([("id", pa.string()), ("tokens", pa.int64()), ("nll", pa.float64())])

SIGNATURE = "ppl|unit:token|ctx:document|unk:closed|eos:y|v:1"
"""How perplexity is defined: state reset at each document, `<unk>` scored as a symbol, `<eos>` counted."""


def slices(offsets: npt.NDArray[np.int64], tokens: int = SLICE_TOKENS) -> list[tuple[int, int]]:
    """Cut documents into runs [first, last) of at least `tokens` tokens each, the last run excepted.

    `offsets` (documents + 1) are the documents' first tokens in the stream.
    """
    cuts, first = [], 0
    documents = len(offsets) - 1
    while first < documents:
        last = int(np.searchsorted(offsets, offsets[first] + tokens, side="left"))
        last = min(max(last, first + 1), documents)
        cuts.append((first, last))
        first = last
    return cuts


def score_slice(
    *, model: str, shard: str, split: str, first: int, last: int, batch_size: int, out: Path
) -> dict[str, Any]:
    """Score documents [first, last) of a split of a shard artifact with a model folder.

    Writes `scores/<first>.parquet` (id, tokens, nll) below `out` and returns its path and sums.
    """
    from components.model.folder import load_model
    from components.model.scoring import score_documents

    network, _ = load_model(Path(model))
    index = read_index(Path(shard))
    stream, offsets = load_documents(Path(shard), index, split)
    documents = [stream[offsets[i] : offsets[i + 1]] for i in range(first, last)]
    losses = score_documents(network, documents, batch_size)
    columns = [
        pa.array(_document_ids(Path(shard), index, split)[first:last], pa.string()),
        pa.array([len(nll) for nll in losses], pa.int64()),
        pa.array([float(nll.sum()) for nll in losses], pa.float64()),
    ]
    path = f"scores/{first:010d}.parquet"
    write_table(out / path, pa.table(columns, schema=SCORE_SCHEMA))
    return {"path": path, "documents": last - first, "tokens": sum(map(len, losses))}


def merge_scores(parts: Sequence[Path], path: Path) -> tuple[int, float]:
    """Join the slices' scores in the given order; returns the tokens and their summed loss in nats."""
    table = pa.concat_tables(pq.read_table(part, page_checksum_verification=True) for part in parts)
    write_table(path, table.combine_chunks())
    return sum(table["tokens"].to_pylist()), math.fsum(table["nll"].to_pylist())


def score_unigram(*, shard: str, split: str, out: Path) -> dict[str, Any]:
    """Score a split by how often each token occurs in train: p(w) = (count(w) + 1) / (tokens + vocabulary).

    The yardstick that any language model has to beat; it writes nothing.
    """
    index = read_index(Path(shard))
    train, _ = load_documents(Path(shard), index, "train")
    counts_V = np.bincount(train, minlength=index.vocab_size) + 1
    nll_V = math.log(counts_V.sum()) - np.log(counts_V)
    tokens, _ = load_documents(Path(shard), index, split)
    occurrences_V = np.bincount(tokens, minlength=index.vocab_size)
    return {"nll": float(occurrences_V @ nll_V), "tokens": len(tokens)}


def score_text_slice(
    *, model: str, clean: str, split: str, first: int, last: int, batch_size: int, out: Path
) -> dict[str, Any]:
    """Score document files [first, last) of a clean artifact's split, encoded by the model's own tokenizer.

    This is how two models with different vocabularies meet on the same text. Returns sums (nll in nats);
    writes nothing.
    """
    from components.model.folder import load_model
    from components.model.scoring import score_documents
    from components.vocab.tokenizer import UNK

    network, tokenizer = load_model(Path(model))
    sums: dict[str, Any] = {"nll": 0.0, "tokens": 0, "unknown": 0, "documents": 0}
    for file in document_files(Path(clean), split)[first:last]:
        texts = [document.text for document in read_documents(file)]
        encoded = [tokens for tokens in map(tokenizer.encode, texts) if tokens]
        losses = score_documents(network, encoded, batch_size)
        sums["nll"] += math.fsum(float(nll.sum()) for nll in losses)
        sums["tokens"] += sum(map(len, encoded))
        sums["unknown"] += sum(tokens.count(UNK) for tokens in encoded)
        sums["documents"] += len(texts)
    return sums


def figures(nll: float, counts: SplitIndex, *, lossless: bool) -> dict[str, float | None]:
    """The figures that follow from a split's summed loss in nats and the counts of its index.

    Perplexity is exp(nll / tokens); per word it is exp(nll / words), None where the index counts no words.
    Bits per byte are nll / ln 2 / bytes, None unless the tokenizer is lossless: `<unk>` hides what its
    spelling costs.

    Raises UserError where the model's training has diverged.
    """
    perplexity = _exp(nll / counts.tokens)
    if perplexity is None:
        raise UserError("the model gives the test split no finite perplexity; train with a lower train.learning_rate")
    return {
        "perplexity": perplexity,
        "word_perplexity": _exp(nll / counts.words) if counts.words else None,
        "bits_per_byte": nll / math.log(2) / counts.bytes if lossless else None,
        "unknown_rate": counts.unknown / counts.tokens,
    }


def _exp(nats: float) -> float | None:
    """e^nats, None where that is no finite number (a word of many thousand tokens gets there)."""
    return math.exp(nats) if nats < 700 else None


def _document_ids(shard: Path, index: Index, split: str) -> list[str]:
    files = [shard / file.path for file in index.splits[split].files]
    return [
        id_
        for file in files
        for id_ in pq.read_table(file, columns=["id"], page_checksum_verification=True)["id"].to_pylist()
    ]
