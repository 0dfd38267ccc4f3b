"""Counts of parts, merged, against one plain counter over the whole text."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from components.documents import Document, write_documents
from components.vocab.config import VocabConfig
from components.vocab.counting import bucket_path, count_units, counted_units, merge_counts, read_counts
from components.vocab.tokenizer import lines

TEXTS = ["The lake\n\n the  fog 🙂", "湖面上\tthe lake", "\n", "A  a\u00a0b\x1cc <unk>", "the lake " * 50]


def count(folder: Path, texts: list[list[str]], config: VocabConfig, buckets: int) -> list[tuple[str, int]]:
    """Count texts given as parts, the way the stage does."""
    for part, content in enumerate(texts):
        documents = (Document(id=f"a#{i}", text=t, source="a", offset=i) for i, t in enumerate(content))
        file = folder / f"{part}.parquet"
        write_documents(file, documents)
        count_units(out=folder, documents=str(file), part=part, buckets=buckets, config=config, pretokenized=True)
    merged = [
        merge_counts(
            out=folder,
            bucket=bucket,
            files=[str(folder / bucket_path(part, bucket)) for part in range(len(texts))],
        )
        for bucket in range(buckets)
    ]
    table = read_counts(str(folder / bucket["path"]) for bucket in merged)
    assert sum(bucket["types"] for bucket in merged) == len(table)
    return list(zip(table["token"].to_pylist(), table["count"].to_pylist(), strict=True))


@pytest.mark.parametrize("kind", ["word", "char", "bpe"])
@pytest.mark.parametrize("lowercase", [False, True])
def test_counts_are_those_of_one_counter_however_the_corpus_is_cut(kind: str, lowercase: bool, tmp_path: Path) -> None:
    config = VocabConfig(kind=kind, size=300, lowercase=lowercase)
    units = counted_units(config, pretokenized=True)
    expected: Counter[str] = Counter()
    for text in TEXTS:
        for line in lines(text):
            expected.update(units(line.lower() if lowercase else line))
    ordered = sorted(expected.items(), key=lambda item: (-item[1], item[0]))
    cuts = [([TEXTS], 1), ([TEXTS[:2], TEXTS[2:]], 3), ([[text] for text in reversed(TEXTS)], 7)]
    for i, (parts, buckets) in enumerate(cuts):
        assert count(tmp_path / str(i), parts, config, buckets) == ordered


def test_parts_give_the_same_bytes_twice(tmp_path: Path) -> None:
    for name in ("a", "b"):
        count(tmp_path / name, [TEXTS], VocabConfig(), 2)
    for bucket in range(2):
        path = bucket_path(0, bucket)
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes()


@settings(deadline=None)
@given(st.text() | st.text(alphabet=" \t\u00a0\u2028\x1c\x1d\x85ab'1!s🙂"))
def test_bpe_pieces_never_cross_a_counted_unit(text: str) -> None:
    pieces = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True).pre_tokenize_str
    split = counted_units(VocabConfig(kind="bpe"), pretokenized=False)
    for line in lines(text):
        units = list(split(line))
        of_units = [piece for unit in units for piece, _ in pieces(unit)]
        covered = "".join(units)
        assert line.startswith(covered)  # what follows is white space to Unicode, though not to str.strip
        assert [piece for piece, _ in pieces(covered)] == of_units
