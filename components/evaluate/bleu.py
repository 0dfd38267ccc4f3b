"""What the model writes: continuations of held-out documents judged by BLEU, and free samples."""

import json
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.evaluate.config import EvaluateConfig
from components.shard.tokens import load_documents, read_index
from components.vocab.config import RESERVED
from components.vocab.tokenizer import UNK

if TYPE_CHECKING:
    from components.generate.language_model import LanguageModel

SEED = 1
LEAST_CONTINUATION = 4
"""Tokens that must be left to continue: the order of BLEU's longest n-grams."""
BATCH = 64
"""Documents continued side by side."""


def continue_documents(
    *, model: str, shard: str, split: str, spaceless: bool, settings: EvaluateConfig, out: Path
) -> dict[str, Any]:
    """Continue the split's first documents greedily, sample freely, write both to `out`/samples.jsonl.

    The true continuation ends with its document, and the model's is cut to the same number of tokens. Returns
    corpus BLEU and chrF with their signatures, or nulls and the reason where no document is long enough.
    """
    from components.generate.language_model import LanguageModel

    language_model = LanguageModel.load(model)
    continuations = _continuations(language_model, Path(shard), split, settings)
    samples = language_model.generate(
        [""] * settings.samples, settings.sample_tokens, temperature=settings.temperature, seed=SEED
    )
    rows: list[dict[str, Any]] = [{"kind": "sample", "text": text} for text in samples]
    rows += [{"kind": "continuation", **row} for row in continuations]
    with (out / "samples.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if not continuations:
        least = settings.prompt_tokens + LEAST_CONTINUATION
        return no_bleu(f"no {split} document has {least} tokens; lower evaluate.prompt_tokens")
    return compare(
        [row["continuation"] for row in continuations],
        [row["reference"] for row in continuations],
        spaceless=spaceless,
    )


def compare(hypotheses: list[str], references: list[str], *, spaceless: bool) -> dict[str, Any]:
    """Corpus BLEU (Papineni et al. 2002) and chrF (Popović 2015) of lines of text, by sacrebleu."""
    from sacrebleu.metrics import BLEU, CHRF

    bleu, chrf = BLEU(tokenize=tokenizer_for(references, spaceless=spaceless)), CHRF()
    return {
        "bleu": float(bleu.corpus_score(hypotheses, [references]).score),
        "chrf": float(chrf.corpus_score(hypotheses, [references]).score),
        "documents": len(references),
        "reason": None,
        "bleu_signature": str(bleu.get_signature()),
        "chrf_signature": str(chrf.get_signature()),
    }


def no_bleu(reason: str) -> dict[str, Any]:
    """What stands where `compare` has nothing to compare."""
    return {
        "bleu": None,
        "chrf": None,
        "documents": 0,
        "reason": reason,
        "bleu_signature": None,
        "chrf_signature": None,
    }


def tokenizer_for(texts: Iterable[str], *, spaceless: bool) -> str:
    """The sacrebleu tokenizer: `13a` for text with spaces, `zh` where most letters are Han, else `char`."""
    if not spaceless:
        return "13a"
    letters = [c for text in texts for c in text.replace(RESERVED[UNK], "") if c.isalpha()]
    han = sum(unicodedata.name(c, "").startswith("CJK ") for c in letters)
    return "zh" if han * 2 > len(letters) else "char"


def one_line(text: str) -> str:
    """The text with every run of white space, line ends included, as one space: what BLEU compares."""
    return " ".join(text.split())


def _continuations(
    language_model: "LanguageModel", shard: Path, split: str, settings: EvaluateConfig
) -> list[dict[str, str]]:
    """The first documents that are long enough: id, prompt, continuation, reference, each in one line."""
    from components.generate.sampling import generate

    stream, offsets = load_documents(shard, read_index(shard), split)
    cut = settings.prompt_tokens
    long_enough = [i for i in range(len(offsets) - 1) if offsets[i + 1] - offsets[i] >= cut + LEAST_CONTINUATION][
        : settings.bleu_documents
    ]
    rows: list[dict[str, str]] = []
    for start in range(0, len(long_enough), BATCH):
        documents = [
            [int(token) for token in stream[offsets[i] : offsets[i + 1]][: cut + settings.continuation_tokens]]
            for i in long_enough[start : start + BATCH]
        ]
        made = generate(
            language_model.network,
            [tokens[:cut] for tokens in documents],
            settings.continuation_tokens,
            temperature=0,
        )
        for tokens, new in zip(documents, made, strict=True):
            prompt, reference = tokens[:cut], tokens[cut:]
            rows.append(
                {
                    "prompt": one_line(language_model.tokenizer.decode(prompt)),
                    "continuation": one_line(language_model.decode_continuation(prompt, new[: len(reference)])),
                    "reference": one_line(language_model.decode_continuation(prompt, reference)),
                }
            )
    return rows
