"""Vocabularies from counts: what is kept, ties, and byte pair encoding equal to training on the raw text."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tokenizers import pre_tokenizers, trainers

from components.documents import write_table
from components.vocab.building import build_tokenizer, build_vocabulary
from components.vocab.config import VocabConfig
from components.vocab.counting import count_table, counted_units
from components.vocab.tokenizer import byte_level_bpe, lines

CHINESE = Path(__file__).parents[2] / "fixtures" / "chinese.txt"


def counts(text: str, config: VocabConfig) -> pa.Table:
    split = counted_units(config, pretokenized=False)
    total = Counter(unit for line in lines(text) for unit in split(line))
    return count_table(dict(sorted(total.items(), key=lambda item: (-item[1], item[0]))))


def corpus() -> str:
    """English-like lines with Chinese ones among them."""
    generator = random.Random(1)
    words = ["lake", "lakes", "the", "The", "fog", "foggy", "don't", "1984", "naïve", "🙂", "--", "  in", "\tof"]
    made = (" ".join(generator.choices(words, k=12)) for _ in range(300))
    return "\n".join([*made, CHINESE.read_text(encoding="utf-8")])


def test_bpe_from_counts_equals_bpe_from_the_raw_lines() -> None:
    for min_count in (1, 20):
        config = VocabConfig(kind="bpe", size=420, min_count=min_count)
        raw = byte_level_bpe()
        trainer = trainers.BpeTrainer(
            vocab_size=config.size - 2,
            min_frequency=min_count,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        raw.train_from_iterator(lines(corpus()), trainer)
        built = build_tokenizer(counts(corpus(), config), config, pretokenized=False)
        assert built.to_json()["bpe"] == json.loads(raw.to_str())
        assert built.size <= 420


def test_bpe_files_have_the_same_bytes_twice_and_for_any_order_of_the_buckets(tmp_path: Path) -> None:
    config = VocabConfig(kind="bpe", size=400)
    table = counts(corpus(), config)
    for name, rows in (("a", table.slice(0, 20)), ("b", table.slice(20))):
        write_table(tmp_path / name, rows)
    found = set()
    for i, order in enumerate(("ab", "ab", "ba")):
        out = tmp_path / f"out{i}"
        out.mkdir()
        build_vocabulary(out=out, counts=[str(tmp_path / n) for n in order], config=config, pretokenized=False)
        found.add(((out / "tokenizer.json").read_bytes(), (out / "counts.parquet").read_bytes()))
    assert len(found) == 1


def test_the_most_frequent_words_are_kept_ties_by_code_point() -> None:
    text = "b b b c c a a d Z Z"
    table = counts(text, VocabConfig(kind="word"))
    tokenizer = build_tokenizer(table, VocabConfig(kind="word", size=5), pretokenized=False)
    assert tokenizer.to_json()["tokens"] == ["b", "Z", "a"]
    assert build_tokenizer(table, VocabConfig(kind="word", min_count=3), pretokenized=False).size == 3


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        ("word", 2 + len(["a", "b", "c"])),
        ("char", 2 + len(["a", "b", "c", " "])),
        ("bpe", 2 + 256 + len([" a", " b", " c"])),
    ],
)
def test_a_vocabulary_larger_than_the_corpus_gives_is_what_it_gives(kind: Any, size: int) -> None:
    config = VocabConfig(kind=kind, size=10_000)
    assert build_tokenizer(counts("a b c a", config), config, pretokenized=False).size == size


def test_a_pretokenized_corpus_cannot_list_the_unknown_symbol() -> None:
    table = count_table({"<unk>": 9, "a": 5, "b": 2})
    tokenizer = build_tokenizer(table, VocabConfig(kind="word", size=4), pretokenized=True)
    assert tokenizer.to_json()["tokens"] == ["a", "b"]
