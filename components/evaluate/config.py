"""Settings of the evaluation."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What is measured on the test split besides its perplexity."""

    batch_size: int = 16
    """Documents scored side by side; changes the speed, not the figures."""
    bleu_documents: int = 200
    """At most this many test documents are continued for BLEU."""
    prompt_tokens: int = 16
    """Tokens of a document that the model is given to continue."""
    continuation_tokens: int = 24
    """Tokens it has to add."""
    samples: int = 8
    """Free samples shown in the report."""
    sample_tokens: int = 60
    """Length of a free sample."""
    temperature: float = 0.8
    """Sampling temperature of the free samples."""

    def __post_init__(self) -> None:
        """Refuse counts that measure nothing."""
        for name in ("batch_size", "bleu_documents", "prompt_tokens", "continuation_tokens", "sample_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.samples < 0:
            raise ValueError("samples must not be negative")
        if not 0 < self.temperature < math.inf:
            raise ValueError("temperature must be a number above 0")
