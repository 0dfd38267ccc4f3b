"""Model folders small enough to make in a test."""

from pathlib import Path

from components.model.config import ModelConfig
from components.model.folder import save_model
from components.model.recurrent import RecurrentLM
from components.vocab.tokenizer import Tokenizer, WordTokenizer

TINY = ModelConfig(layers=1, embedding_size=8, hidden_size=8, dropout=0.0)
WORDS = ("the", "cat", "sat", "dog", "ran")


def make_model(
    folder: Path, tokenizer: Tokenizer | None = None, *, seed: int = 0, counts: list[int] | None = None
) -> Path:
    """An untrained model; `counts` of its tokens make it a unigram model, much better than none."""
    tokenizer = tokenizer or WordTokenizer(WORDS, lowercase=False, pretokenized=True)
    network = RecurrentLM(TINY, tokenizer.size, seed)
    if counts:
        network.init_output_bias(counts)
    save_model(folder, network, tokenizer)
    return folder
