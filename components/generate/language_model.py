"""A model folder as one object: text in, scores and text out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.errors import UserError
from components.generate.sampling import generate
from components.model.folder import load_model
from components.model.recurrent import RecurrentLM
from components.model.scoring import score_documents
from components.vocab.tokenizer import EOS, UNK, Tokenizer

BATCH_SIZE = 16
"""Texts scored side by side; changes the speed, not the figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How likely a text is. Every line's closing `<eos>` counts as a token."""

    log_probability: float
    """Natural logarithm of the probability of the whole text."""
    tokens: int
    perplexity: float
    """Per token: exp(-log_probability / tokens)."""
    unknown: int
    """Tokens that are not in the vocabulary, scored as `<unk>`."""


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A recurrent network and its tokenizer."""

    network: RecurrentLM
    tokenizer: Tokenizer

    @classmethod
    def load(cls, folder: Path | str, device: str = "cpu") -> "LanguageModel":
        """Open a model folder. Raises UserError where it is missing, damaged or tampered with."""
        return cls(*load_model(Path(folder), device))

    def score(self, texts: Sequence[str]) -> list[Score]:
        """Score every text as a document of its own. Raises UserError for a text without a token."""
        documents = [self.tokenizer.encode(text) for text in texts]
        for number, tokens in enumerate(documents, start=1):
            if not tokens:
                raise UserError(f"text {number} of {len(texts)} is empty; give at least one word to score")
        losses = score_documents(self.network, documents, BATCH_SIZE)
        return [_score(float(nll.sum()), tokens) for nll, tokens in zip(losses, documents, strict=True)]

    def generate(
        self,
        prompts: Sequence[str],
        max_tokens: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        seed: int = 0,
    ) -> list[str]:
        """Continue every prompt and return what was added: prompt + continuation reads as one text.

        An empty prompt starts a new document. Options and errors are those of `sampling.generate`.
        """
        given = [self.encode_prompt(prompt) for prompt in prompts]
        made = generate(self.network, given, max_tokens, temperature=temperature, top_k=top_k, seed=seed)
        return [self.decode_continuation(*pair) for pair in zip(given, made, strict=True)]

    def encode_prompt(self, prompt: str) -> list[int]:
        """The tokens of a text whose last line goes on: without the closing `<eos>`."""
        tokens = self.tokenizer.encode(prompt)
        return tokens[:-1] if tokens and tokens[-1] == EOS else tokens

    def decode_continuation(self, prompt: list[int], continuation: list[int]) -> str:
        """What the continuation adds to the prompt's text, with the space between them where there is one."""
        before, whole = self.tokenizer.decode(prompt), self.tokenizer.decode([*prompt, *continuation])
        # A byte-level prompt can end inside a character; then the two texts differ where they meet.
        return whole[len(before) :] if whole.startswith(before) else self.tokenizer.decode(continuation)


def _score(nll: float, tokens: list[int]) -> Score:
    mean = nll / len(tokens)
    return Score(
        log_probability=-nll,
        tokens=len(tokens),
        perplexity=math.exp(mean) if mean < 700 else math.inf,
        unknown=sum(token == UNK for token in tokens),
    )
