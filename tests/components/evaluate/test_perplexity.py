import math
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest

from components.errors import UserError
from components.evaluate.perplexity import (
    figures,
    merge_scores,
    score_slice,
    score_text_slice,
    score_unigram,
    slices,
)
from components.model.folder import load_model
from components.shard.tokens import SplitIndex, read_index
from tests.components.evaluate.artifacts import (
    make_clean,
    make_model,
    make_shard,
    random_texts,
    word_tokenizer,
)

TEXTS = {
    "train": random_texts(30, seed=1),
    "valid": random_texts(5, seed=2),
    "test": random_texts(40, seed=3, longest=120),
}


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    folder, tokenizer = tmp_path_factory.mktemp("artifacts"), word_tokenizer()
    clean = make_clean(folder / "clean", TEXTS, files=3)
    return {
        "clean": clean,
        "shard": make_shard(folder / "shard", clean, tokenizer),
        "model": make_model(folder / "model", tokenizer),
    }


def score(artifacts, out, batch_size=16, cuts=((0, 40),)):
    parts = [
        score_slice(
            model=str(artifacts["model"]),
            shard=str(artifacts["shard"]),
            split="test",
            first=first,
            last=last,
            batch_size=batch_size,
            out=out,
        )
        for first, last in cuts
    ]
    return merge_scores([out / part["path"] for part in parts], out / "scores.parquet")


def naive_nll(artifacts, text):
    """Token by token through the definition: -log softmax(W h)_token, state zero at the start."""
    import torch

    model, tokenizer = load_model(artifacts["model"])
    state, previous, nll = model.initial_state(1), 1, 0.0
    with torch.no_grad():
        for token in tokenizer.encode(text):
            hidden_BTH, state = model(torch.tensor([[previous]]), state)
            nll -= float(torch.log_softmax(model.logits(hidden_BTH[0, 0]).double(), 0)[token])
            previous = token
    return nll


def test_scores_are_those_of_the_definition(artifacts, tmp_path):
    tokens, nll = score(artifacts, tmp_path)
    rows = pq.read_table(tmp_path / "scores.parquet").to_pylist()
    expected = [naive_nll(artifacts, text) for text in TEXTS["test"]]
    assert [row["id"] for row in rows] == [f"test.txt#{i}" for i in range(40)]
    assert [row["nll"] for row in rows] == pytest.approx(expected, rel=1e-6)
    assert nll == pytest.approx(sum(expected), rel=1e-6)
    assert tokens == read_index(artifacts["shard"]).splits["test"].tokens


def test_neither_batch_size_nor_slices_change_the_figure(artifacts, tmp_path):
    index = read_index(artifacts["shard"]).splits["test"]
    cuts = ((0, 7), (7, 8), (8, 40))
    whole = {size: score(artifacts, tmp_path / str(size), size) for size in (1, 8, 16)}
    whole["cut"] = score(artifacts, tmp_path / "cut", 8, cuts)
    perplexities = {k: figures(nll, index, lossless=False)["perplexity"] for k, (_, nll) in whole.items()}
    assert {tokens for tokens, _ in whole.values()} == {index.tokens}
    assert list(perplexities.values()) == pytest.approx([perplexities[1]] * 4, rel=1e-6)


def test_the_same_slice_gives_the_same_bytes(artifacts, tmp_path):
    for name in ("once", "again"):
        score(artifacts, tmp_path / name, cuts=((0, 20), (20, 40)))
    assert (tmp_path / "once/scores.parquet").read_bytes() == (tmp_path / "again/scores.parquet").read_bytes()


def test_slices_cover_every_document_once():
    lengths = np.random.default_rng(1).integers(1, 400, 500)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    cuts = slices(offsets, 1000)
    assert [first for first, _ in cuts] == [0, *(last for _, last in cuts[:-1])]
    assert cuts[-1][1] == 500
    sizes = [int(offsets[last] - offsets[first]) for first, last in cuts]
    assert all(1000 <= size < 1400 for size in sizes[:-1])
    assert slices(np.array([0, 5000, 5001]), 1000) == [(0, 1), (1, 2)]


def test_the_unigram_yardstick_is_add_one_smoothed(artifacts, tmp_path):
    tokenizer = word_tokenizer()
    train = Counter(token for text in TEXTS["train"] for token in tokenizer.encode(text))
    tested = [token for text in TEXTS["test"] for token in tokenizer.encode(text)]
    total = train.total() + tokenizer.size
    expected = -sum(math.log((train[token] + 1) / total) for token in tested)
    result = score_unigram(shard=str(artifacts["shard"]), split="test", out=tmp_path)
    assert result == {"nll": pytest.approx(expected), "tokens": len(tested)}


def test_text_scores_equal_token_scores_for_the_same_tokenizer(artifacts, tmp_path):
    parts = [
        score_text_slice(
            model=str(artifacts["model"]),
            clean=str(artifacts["clean"]),
            split="test",
            first=first,
            last=first + 1,
            batch_size=4,
            out=tmp_path,
        )
        for first in range(3)
    ]
    tokens, nll = score(artifacts, tmp_path)
    index = read_index(artifacts["shard"]).splits["test"]
    assert sum(part["nll"] for part in parts) == pytest.approx(nll, rel=1e-6)
    assert sum(part["tokens"] for part in parts) == tokens
    assert sum(part["unknown"] for part in parts) == index.unknown > 0
    assert sum(part["documents"] for part in parts) == 40


COUNTS = SplitIndex(documents=2, tokens=100, unknown=4, bytes=300, words=50, lines=10, files=())


def test_figures_are_those_of_their_definitions():
    assert figures(200.0, COUNTS, lossless=True) == {
        "perplexity": pytest.approx(math.exp(2)),
        "word_perplexity": pytest.approx(math.exp(4)),
        "bits_per_byte": pytest.approx(200 / math.log(2) / 300),
        "unknown_rate": 0.04,
    }


def test_figures_without_a_meaning_are_null():
    counts = SplitIndex(documents=2, tokens=100, unknown=0, bytes=300, words=None, lines=10, files=())
    result = figures(200.0, counts, lossless=False)
    assert result["word_perplexity"] is None
    assert result["bits_per_byte"] is None
    huge_words = SplitIndex(documents=1, tokens=100_000, unknown=0, bytes=300, words=2, lines=1, files=())
    assert figures(200_000.0, huge_words, lossless=True)["word_perplexity"] is None


@pytest.mark.parametrize("nll", [math.nan, math.inf, 1e9])
def test_a_diverged_model_is_the_users_to_mend(nll):
    with pytest.raises(UserError, match="learning_rate"):
        figures(nll, COUNTS, lossless=False)


def test_a_damaged_shard_is_named(artifacts, tmp_path):
    shard = make_shard(tmp_path / "shard", artifacts["clean"], word_tokenizer())
    path = shard / "tokens/test/part-00000.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"test/part-00000\.parquet.*pipeline run --stage shard --force"):
        score({**artifacts, "shard": shard}, tmp_path)
