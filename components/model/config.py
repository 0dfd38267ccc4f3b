"""Settings of the model."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A recurrent language model: embedding, stacked recurrence, softmax over the vocabulary."""

    cell: Literal["lstm", "rnn", "gru"] = "lstm"
    """The recurrence; `rnn` is Elman's with tanh."""
    layers: int = 2
    """Recurrent layers on top of each other."""
    embedding_size: int = 256
    """Width of a token's embedding."""
    hidden_size: int = 256
    """Units of a recurrent layer; the last one has `embedding_size` units where the weights are tied."""
    tied: bool = True
    """Use the embedding as the softmax matrix (Press and Wolf 2017, Inan et al. 2017)."""
    dropout: float = 0.1
    """Probability of a zero on the embedding, between layers and before the softmax."""

    def __post_init__(self) -> None:
        """Refuse shapes that hold nothing."""
        for name in ("layers", "embedding_size", "hidden_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError("dropout must be at least 0 and below 1")
