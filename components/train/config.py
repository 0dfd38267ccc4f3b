"""Settings of the training."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Maximum likelihood by truncated back-propagation through time."""

    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    """The update rule."""
    learning_rate: float = 8e-3
    """Peak learning rate of the schedule."""
    weight_decay: float = 0.0
    """L2 penalty (sgd, adam) or decoupled decay (adamw)."""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """How the learning rate falls to zero after the warm-up."""
    warmup_fraction: float = 0.1
    """Share of the steps over which the learning rate rises from zero."""
    batch_size: int = 16
    """Lanes: parallel streams of text over all workers together."""
    bptt: int = 64
    """Tokens of a segment: how far gradients flow back."""
    epochs: int = 3
    """Passes over the training split."""
    max_steps: int | None = None
    """Stop after this many updates, if that comes first."""
    clip_norm: float = 1.0
    """Largest norm of the gradient; 0 switches clipping off."""
    seed: int = 1
    """Seed of the initial weights and of dropout."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the matrix products; weights and optimizer stay fp32."""

    def __post_init__(self) -> None:
        """Refuse values that cannot train."""
        for name in ("batch_size", "bptt", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.max_steps is not None and self.max_steps < 1:
            raise ValueError("max_steps must be at least 1, or null for no limit")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError("learning_rate must be a number above 0")
        for name in ("weight_decay", "clip_norm"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a number and not negative")
        if not 0 <= self.warmup_fraction < 1:
            raise ValueError("warmup_fraction must be at least 0 and below 1")
        if not 0 <= self.seed < 2**63:
            raise ValueError("seed must lie between 0 and 2**63-1")
