"""The laws of encoding and decoding, and what a damaged tokenizer file gets."""

import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.errors import UserError
from components.vocab.building import build_tokenizer
from components.vocab.config import VocabConfig
from components.vocab.counting import count_table
from components.vocab.tokenizer import (
    EOS,
    UNK,
    CharTokenizer,
    Tokenizer,
    WordTokenizer,
    load_tokenizer,
    save_tokenizer,
)

COUNTS = {" the": 90, " lake": 40, "The": 30, "渔夫": 20, " 🙂": 9, " naïve": 5}
HARD_TEXT = st.text() | st.lists(
    st.sampled_from(
        [
            "<eos>",
            "<unk>",
            "\0",
            "\n",
            " \n\t",
            "👩‍👩‍👧",
            "e\u0301",
            "\u2028",
            "\x1c!",
            "\r",
            "the lake",
            "\ufffd",
        ]
    )
).map("".join)


def bpe(*, lowercase: bool = False) -> Tokenizer:
    return build_tokenizer(
        count_table(COUNTS), VocabConfig(kind="bpe", size=290, lowercase=lowercase), pretokenized=False
    )


BPE = bpe()
WORD = WordTokenizer(["the", "lake", ".", "(", ")"], lowercase=True, pretokenized=False)
TAKEN = WordTokenizer(["The", "lake", "<eos>"], lowercase=False, pretokenized=True)
CHAR = CharTokenizer(["a", "b", " "], lowercase=False)


def stripped(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n") if line.strip()]


@settings(deadline=None)
@given(HARD_TEXT)
def test_bpe_loses_nothing_but_blank_lines_and_margins(text: str) -> None:
    assert BPE.decode(BPE.encode(text)) == "\n".join(stripped(text))


@settings(deadline=None)
@given(HARD_TEXT)
def test_bpe_knows_every_text_and_ends_every_line(text: str) -> None:
    ids = BPE.encode(text)
    assert UNK not in ids
    assert ids.count(EOS) == len(stripped(text))
    assert all(0 <= id_ < BPE.size for id_ in ids)


@settings(deadline=None)
@given(HARD_TEXT)
def test_char_loses_nothing_where_all_characters_are_known(text: str) -> None:
    tokenizer = CharTokenizer(sorted(set(text)), lowercase=False)
    assert tokenizer.decode(tokenizer.encode(text)) == "\n".join(stripped(text))


@settings(deadline=None)
@given(HARD_TEXT)
def test_words_of_a_pretokenized_line_come_back_with_single_spaces(text: str) -> None:
    words = sorted(set(text.split()) - {"<unk>"})
    tokenizer = WordTokenizer(words, lowercase=False, pretokenized=True)
    assert tokenizer.decode(tokenizer.encode(text)) == "\n".join(" ".join(line.split()) for line in stripped(text))


@settings(deadline=None)
@given(HARD_TEXT)
def test_every_tokenizer_takes_every_text_and_every_id(text: str) -> None:
    for tokenizer in (BPE, WORD, TAKEN, CHAR):
        ids = tokenizer.encode(text)
        assert all(0 <= id_ < tokenizer.size for id_ in ids)
        assert ids.count(EOS) == len(stripped(text))
        tokenizer.decode(ids)


def test_decoding_what_a_model_may_emit() -> None:
    for tokenizer in (BPE, WORD, TAKEN, CHAR):
        generator = random.Random(1)
        tokenizer.decode([generator.randrange(tokenizer.size) for _ in range(500)])
        assert tokenizer.decode([]) == ""
        assert tokenizer.decode([EOS]) == ""
        assert tokenizer.decode([EOS, EOS]) == "\n"
        assert tokenizer.decode([UNK]) == "<unk>"
        assert all(tokenizer.token(id_) for id_ in range(tokenizer.size))


def test_what_is_not_in_the_vocabulary_is_unknown() -> None:
    assert WORD.encode("The LAKE freezes.") == [2, 3, UNK, 4, EOS]
    assert WORD.decode(WORD.encode("(the lake) freezes.")) == "(the lake) <unk>."
    assert CHAR.encode("a cab") == [2, 4, UNK, 2, 3, EOS]


def test_pretokenized_text_may_mark_the_unknown_itself_but_not_line_ends() -> None:
    assert TAKEN.encode("The <unk> lake <eos>\n\nThe") == [2, UNK, 3, 4, EOS, 2, EOS]
    assert TAKEN.decode([2, 4, EOS, 3]) == "The <eos>\nlake"


def test_a_literal_reserved_symbol_is_text_for_bpe() -> None:
    assert EOS not in BPE.encode_line("<eos>")
    assert BPE.decode_line(BPE.encode_line("<unk> <eos>")) == "<unk> <eos>"


def test_tokens_are_readable() -> None:
    assert [BPE.token(id_) for id_ in (UNK, EOS, *BPE.encode_line("The lake"))] == [
        "<unk>",
        "<eos>",
        "The",
        " lake",
    ]
    assert BPE.token(BPE.encode_line("é")[0]) == "Ã"


def test_only_bpe_with_its_case_is_lossless() -> None:
    assert [t.lossless for t in (BPE, bpe(lowercase=True), WORD, TAKEN, CHAR)] == [
        True,
        False,
        False,
        False,
        False,
    ]


def test_lower_case_folds_before_anything_else() -> None:
    folded = bpe(lowercase=True)
    assert folded.encode("THE LAKE") == folded.encode("the lake")
    assert CharTokenizer(["a"], lowercase=True).encode("A") == [2, EOS]


def test_half_a_surrogate_pair_is_told() -> None:
    with pytest.raises(UserError, match="surrogate"):
        BPE.encode("a \ud83d b")


@pytest.mark.parametrize("tokenizer", [BPE, bpe(lowercase=True), WORD, TAKEN, CHAR])
def test_files_give_the_same_tokenizer_and_the_same_bytes(tokenizer: Tokenizer, tmp_path: Path) -> None:
    save_tokenizer(tokenizer, tmp_path / "a.json")
    loaded = load_tokenizer(tmp_path / "a.json")
    save_tokenizer(loaded, tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    text = "The Lake\n渔夫 abba <unk> <eos>"
    assert loaded.encode(text) == tokenizer.encode(text)
    assert (type(loaded), loaded.size, loaded.lossless) == (
        type(tokenizer),
        tokenizer.size,
        tokenizer.lossless,
    )


def damaged(**changes: Any) -> Any:
    return {**BPE.to_json(), **changes}


def damaged_bpe(**changes: Any) -> Any:
    return damaged(bpe={**BPE.to_json()["bpe"], **changes})


def damaged_model(**changes: Any) -> Any:
    return damaged_bpe(model={**BPE.to_json()["bpe"]["model"], **changes})


VOCABULARY = BPE.to_json()["bpe"]["model"]["vocab"]
HOSTILE: list[Any] = [
    None,
    [],
    3,
    {},
    {"format": 2},
    damaged(format=2),
    damaged(kind="wordpiece"),
    damaged(kind=["bpe"]),
    damaged(kind="word"),
    damaged(lowercase="no"),
    damaged(bpe=None),
    damaged(bpe=[]),
    damaged_bpe(model=None),
    damaged_bpe(normalizer={"type": "Lowercase"}),
    damaged_bpe(pre_tokenizer=None),
    damaged_bpe(decoder=None),
    damaged_bpe(added_tokens=[{"id": 0, "content": "<eos>", "special": True}]),
    damaged_model(dropout=0.5),
    damaged_model(vocab=None),
    damaged_model(vocab={}),
    damaged_model(vocab={"a": 0}),
    damaged_model(vocab={**VOCABULARY, "zz": 10**30}),
    damaged_model(vocab={**VOCABULARY, "zz": -1}),
    damaged_model(vocab={**VOCABULARY, "zz": 5}),
    damaged_model(vocab={**VOCABULARY, "zz": None}),
    damaged_model(vocab={**VOCABULARY, "\ud800": len(VOCABULARY)}),
    damaged_model(merges=None),
    damaged_model(merges=["a b"]),
    damaged_model(merges=[["a", "b", "c"]]),
    damaged_model(merges=[["a", 1]]),
    damaged_model(merges=[["a", "nowhere"]]),
    damaged_model(merges=[["", "a"]]),
    {"format": 1, "kind": "char", "lowercase": False, "tokens": ["ab"]},
    {"format": 1, "kind": "char", "lowercase": False, "tokens": ["a", "a"]},
    {"format": 1, "kind": "char", "lowercase": False, "tokens": "abc"},
    {"format": 1, "kind": "char", "lowercase": False, "tokens": [["a"]]},
    {"format": 1, "kind": "char", "lowercase": False, "tokens": ["\ud800"]},
    {"format": 1, "kind": "word", "lowercase": False, "tokens": ["a"]},
    {"format": 1, "kind": "word", "lowercase": False, "pretokenized": 1, "tokens": ["a"]},
    {"format": 1, "kind": "word", "lowercase": False, "pretokenized": True, "tokens": ["a", ""]},
]


@pytest.mark.parametrize("content", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_content_is_refused_by_name(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"tokenizer\.json.*--stage vocab --force"):
        load_tokenizer(path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"format":1'])
def test_files_that_are_no_json_are_refused_by_name(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        load_tokenizer(path)


def test_missing_files_and_folders_are_told(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.json"):
        with pytest.raises(UserError, match=str(path)):
            load_tokenizer(path)


def test_flipped_bits_never_crash(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    save_tokenizer(BPE, path)
    content = path.read_bytes()
    generator = random.Random(1)
    for _ in range(300):
        bit = generator.randrange(len(content) * 8)
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with suppress(UserError):
            load_tokenizer(path).encode("The lake")
