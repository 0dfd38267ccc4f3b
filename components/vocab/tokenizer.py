"""Text to token ids and back: words, characters or byte pairs behind one protocol.

    text ──lines──► "so it goes" ──encode_line──► [17, 9, 230]  + [<eos>]  for every line that is not blank
    text ◄───────── "so it goes" ◄──decode_line── [17, 9, 230]    split at <eos>

Ids 0 `<unk>` and 1 `<eos>` are the same in every vocabulary. `<eos>` ends each line of a document.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from components.errors import UserError
from components.vocab.config import RESERVED
from components.vocab.words import join_words, word_splitter

if TYPE_CHECKING:
    from tokenizers import Tokenizer as HuggingFaceTokenizer  # imported where it is used: only bpe needs it

UNK = 0
EOS = 1
FORMAT = 1


class Tokenizer(Protocol):
    """What a vocabulary can do. `decode(encode(text))` is the text's non-blank lines where `lossless`."""

    kind: Literal["word", "char", "bpe"]
    size: int
    """Number of ids, the reserved ones included."""
    lowercase: bool
    lossless: bool

    def encode_line(self, line: str) -> list[int]:
        """The ids of one line, without `<eos>`."""
        ...

    def decode_line(self, ids: Sequence[int]) -> str:
        """The text of ids among which is no `<eos>`."""
        ...

    def token(self, id: int) -> str:
        """A token as people read it."""
        ...

    def to_json(self) -> dict[str, Any]:
        """All that `load_tokenizer` needs."""
        ...

    def encode(self, text: str) -> list[int]:
        """The ids of all lines that are not blank, each followed by `<eos>`."""
        ids: list[int] = []
        for line in lines(text):
            ids += self.encode_line(line)
            ids.append(EOS)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids: `<eos>` becomes a line break, but at the very end it just ends the last line."""
        pieces = list(_split(ids, EOS))
        if not pieces[-1]:
            pieces.pop()
        return "\n".join(self.decode_line(piece) for piece in pieces)


class _ListedTokenizer(Tokenizer):
    """Tokens in a list; what is not in it is `<unk>`."""

    lossless = False

    def __init__(self, tokens: Iterable[str], *, lowercase: bool) -> None:
        self.tokens = (*RESERVED, *tokens)
        self.size = len(self.tokens)
        self.lowercase = lowercase
        self._ids = {token: id_ for id_, token in enumerate(self.tokens) if id_ >= len(RESERVED)}

    def token(self, id: int) -> str:
        """A token as people read it."""
        return self.tokens[id]

    def to_json(self) -> dict[str, Any]:
        """All that `load_tokenizer` needs."""
        return {
            "format": FORMAT,
            "kind": self.kind,
            "lowercase": self.lowercase,
            "tokens": list(self.tokens[len(RESERVED) :]),
        }

    def _look_up(self, pieces: Iterable[str]) -> list[int]:
        find = self._ids.get
        return [find(piece, UNK) for piece in pieces]


class WordTokenizer(_ListedTokenizer):
    """Words and punctuation marks, or the white-space tokens of a pretokenized corpus.

    In a pretokenized corpus a literal `<unk>` is the unknown symbol, since no vocabulary lists it.
    """

    kind = "word"

    def __init__(self, tokens: Iterable[str], *, lowercase: bool, pretokenized: bool) -> None:
        super().__init__(tokens, lowercase=lowercase)
        self.pretokenized = pretokenized
        self._units = unit_splitter("word", pretokenized=pretokenized)

    def encode_line(self, line: str) -> list[int]:
        """The ids of one line, without `<eos>`."""
        return self._look_up(self._units(line.lower() if self.lowercase else line))

    def decode_line(self, ids: Sequence[int]) -> str:
        """The text of ids among which is no `<eos>`."""
        words = [self.tokens[id_] for id_ in ids]
        return " ".join(words) if self.pretokenized else join_words(words)

    def to_json(self) -> dict[str, Any]:
        """All that `load_tokenizer` needs."""
        return {**super().to_json(), "pretokenized": self.pretokenized}


class CharTokenizer(_ListedTokenizer):
    """Unicode characters, spaces included."""

    kind = "char"

    def encode_line(self, line: str) -> list[int]:
        """The ids of one line, without `<eos>`."""
        return self._look_up(line.lower() if self.lowercase else line)

    def decode_line(self, ids: Sequence[int]) -> str:
        """The text of ids among which is no `<eos>`."""
        return "".join(self.tokens[id_] for id_ in ids)


class BpeTokenizer(Tokenizer):
    """Byte-level byte pair encoding (Sennrich et al. 2016, Radford et al. 2019): nothing is unknown to it.

    The ids of the Hugging Face tokenizer inside come after the reserved ones. It has no special tokens: a
    literal `<eos>` in a text is just text.
    """

    kind = "bpe"

    def __init__(self, bpe: "HuggingFaceTokenizer", *, lowercase: bool) -> None:
        self.size = bpe.get_vocab_size() + len(RESERVED)
        self.lowercase = lowercase
        self.lossless = not lowercase
        self._bpe = bpe

    def encode_line(self, line: str) -> list[int]:
        """The ids of one line, without `<eos>`."""
        try:
            _refuse_half_characters(line)
        except UnicodeEncodeError:
            raise UserError("the text holds half of a surrogate pair, no character: read it as UTF-8") from None
        ids = self._bpe.encode(line.lower() if self.lowercase else line).ids
        return [id_ + len(RESERVED) for id_ in ids]

    def decode_line(self, ids: Sequence[int]) -> str:
        """The text of ids among which is no `<eos>`."""
        # A model may emit <unk>, which no text encodes to. Bytes that are no UTF-8 become U+FFFD.
        runs = ([id_ - len(RESERVED) for id_ in run] for run in _split(ids, UNK))
        return RESERVED[UNK].join(self._bpe.decode(run, skip_special_tokens=False) for run in runs)

    def token(self, id: int) -> str:
        """A token as people read it."""
        if id < len(RESERVED):
            return RESERVED[id]
        text = self.decode_line([id])
        return text if "\ufffd" not in text else self._bpe.id_to_token(id - len(RESERVED)) or text

    def to_json(self) -> dict[str, Any]:
        """All that `load_tokenizer` needs."""
        return {
            "format": FORMAT,
            "kind": self.kind,
            "lowercase": self.lowercase,
            "bpe": json.loads(self._bpe.to_str()),
        }


def lines(text: str, *, lowercase: bool = False) -> Iterator[str]:
    """The lines of a document as they are tokenized: stripped, without the blank ones."""
    for line in text.split("\n"):
        if stripped := line.strip():
            yield stripped.lower() if lowercase else stripped


def unit_splitter(kind: str, *, pretokenized: bool) -> Callable[[str], Iterable[str]]:
    """The function that cuts a stripped line into what the vocabulary counts."""
    if kind == "char":
        return iter
    return str.split if pretokenized else word_splitter()


def byte_level_bpe(
    vocabulary: dict[str, int] | None = None, merges: list[tuple[str, str]] | None = None
) -> "HuggingFaceTokenizer":
    """A Hugging Face tokenizer with GPT-2's pieces: byte-level, no normalizer, no special tokens."""
    from tokenizers import Tokenizer as HuggingFaceTokenizer
    from tokenizers import decoders, models, pre_tokenizers

    bpe = HuggingFaceTokenizer(models.BPE(vocab=vocabulary, merges=merges) if vocabulary else models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    bpe.decoder = decoders.ByteLevel()
    return bpe


def save_tokenizer(tokenizer: Tokenizer, path: Path) -> None:
    """Write the tokenizer as JSON; the same tokenizer gives the same bytes."""
    path.write_text(json.dumps(tokenizer.to_json(), ensure_ascii=False, indent=0) + "\n", encoding="utf-8")


def load_tokenizer(path: Path) -> Tokenizer:
    """Read what `save_tokenizer` wrote. Raises UserError naming the file where it is anything else."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: a tokenizer is made by `pipeline run --stage vocab`") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a readable tokenizer ({error}); {_REMEDY}") from None
    try:
        return _from_json(data)
    except ValueError as error:
        raise UserError(f"{path} is not a tokenizer of this program: {error}; {_REMEDY}") from None


_REMEDY = "make it again with `pipeline run --stage vocab --force`"


def _from_json(data: Any) -> Tokenizer:
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ValueError(f"it is not of format {FORMAT}")
    kind, lowercase = data.get("kind"), data.get("lowercase")
    if not isinstance(lowercase, bool):
        raise ValueError("lowercase is not true or false")
    if kind == "bpe":
        return BpeTokenizer(_checked_bpe(data.get("bpe")), lowercase=lowercase)
    tokens = data.get("tokens")
    if not isinstance(tokens, list) or not all(isinstance(token, str) and token for token in tokens):
        raise ValueError("tokens is not a list of strings")
    _refuse_half_characters(tokens)
    if len(set(tokens)) != len(tokens):
        raise ValueError("a token occurs twice")
    if kind == "char" and all(len(token) == 1 for token in tokens):
        return CharTokenizer(tokens, lowercase=lowercase)
    if kind == "word" and isinstance(data.get("pretokenized"), bool):
        return WordTokenizer(tokens, lowercase=lowercase, pretokenized=data["pretokenized"])
    raise ValueError(f"its kind {kind!r} does not fit its tokens")


def _checked_bpe(data: Any) -> "HuggingFaceTokenizer":
    """Build the tokenizer anew from its vocabulary and merges, the only parts that may differ between two."""
    from tokenizers import pre_tokenizers

    model = data.get("model") if isinstance(data, dict) else None
    if not isinstance(model, dict):
        raise ValueError("it has no bpe model")
    vocabulary, merges = model.get("vocab"), model.get("merges")
    if not isinstance(vocabulary, dict) or not isinstance(merges, list):
        raise ValueError("the bpe model has no vocabulary or no merges")
    ids = list(vocabulary.values())
    if not all(type(id_) is int for id_ in ids) or sorted(ids) != list(range(len(ids))):
        raise ValueError("the bpe ids are not 0, 1, 2, ...")
    _refuse_half_characters(vocabulary)
    if not set(pre_tokenizers.ByteLevel.alphabet()) <= vocabulary.keys():
        raise ValueError("the bpe vocabulary lacks some of the 256 bytes")
    for merge in merges:
        if not isinstance(merge, list) or len(merge) != 2 or not all(isinstance(half, str) for half in merge):
            raise ValueError("a bpe merge is not a pair of strings")
        if not {*merge, "".join(merge)} <= vocabulary.keys():
            raise ValueError(f"the bpe merge {merge} is not of tokens in the vocabulary")
    bpe = byte_level_bpe(vocabulary, [(left, right) for left, right in merges])
    ours = json.loads(bpe.to_str())
    if {**ours, **data, "model": {**ours["model"], **model}} != ours:
        raise ValueError("the bpe is not plain byte-level")
    return bpe


def _refuse_half_characters(tokens: Iterable[str]) -> None:
    """Python's strings and JSON can hold half of a surrogate pair; UTF-8 and Rust cannot."""
    "".join(tokens).encode()


def _split(ids: Iterable[int], separator: int) -> Iterator[list[int]]:
    run: list[int] = []
    for id_ in ids:
        if id_ == separator:
            yield run
            run = []
        else:
            run.append(int(id_))
    yield run
