"""A training in memory, and its way into a checkpoint and back."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from components.model.recurrent import RecurrentLM, State
from components.train.checkpoint import (
    Checkpoint,
    newest_checkpoint,
    prune_checkpoints,
    read_checkpoint,
    write_checkpoint,
)
from components.train.data import TrainData
from components.train.job import TrainJob
from components.train.metrics import MetricsLog
from components.train.optimizer import build_optimizer, load_optimizer_tensors, optimizer_tensors
from components.train.ranks import Ranks


@dataclass(kw_only=True)
class Run:
    """Everything that changes while a model is trained."""

    model: RecurrentLM
    optimizer: Optimizer
    state: State
    """Hidden state of this rank's lanes after the last step."""
    step: int = 0
    """Updates done."""
    best_step: int = 0
    best_loss: float = float("inf")
    """Lowest validation loss so far, in nats per token."""
    best_weights: dict[str, Tensor]
    """The weights that had it, on the CPU."""
    saved_at: float
    """When the last checkpoint was written, by this process' monotonic clock, in seconds."""


def start_run(job: TrainJob, data: TrainData, ranks: Ranks, log: MetricsLog) -> Run:
    """A new run, or the newest checkpoint of this very job continued; cuts the log back to where that stood."""
    run = _new_run(job, data, ranks)
    folder, identity = job.work / "checkpoints", _identity(job, data)
    checkpoint: Checkpoint | None = None
    damaged: list[Path] = []
    if ranks.first:
        checkpoint = newest_checkpoint(folder, lambda c: c.state["identity"] == identity, damaged.append)
    step = ranks.from_first(checkpoint.step if checkpoint else -1)
    if step >= 0 and checkpoint is None:
        checkpoint = read_checkpoint(folder, step)
    log.cut(checkpoint.state["metrics_bytes"] if checkpoint else 0)
    for path in damaged:
        log.write(event="checkpoint_damaged", path=str(path))
    if checkpoint:
        _restore(run, checkpoint, data, ranks)
        log.write(event="resumed", step=step, world_size=ranks.world_size)
    return run


def save_run(run: Run, job: TrainJob, data: TrainData, ranks: Ranks, log: MetricsLog) -> None:
    """Write a checkpoint. All ranks take part: it holds the hidden state of all lanes."""
    hidden = {
        f"hidden.{layer}.{part}": ranks.gather(tensor).clone()
        for layer, parts in enumerate(run.state)
        for part, tensor in enumerate(parts)
    }
    if ranks.first:
        tensors = (
            {f"model.{name}": weight for name, weight in run.model.state_dict().items()}
            | {f"optimizer.{name}": tensor for name, tensor in optimizer_tensors(run.optimizer).items()}
            | {f"best.{name}": weight for name, weight in run.best_weights.items()}
            | hidden
        )
        state = {
            "identity": _identity(job, data),
            "world_size": ranks.world_size,
            "best": [run.best_step, run.best_loss] if run.best_step else None,
            "metrics_bytes": log.sync(),
        }
        folder = job.work / "checkpoints"
        write_checkpoint(folder, Checkpoint(step=run.step, tensors=tensors, state=state))
        prune_checkpoints(folder, job.keep_checkpoints)
    run.saved_at = time.monotonic()


def _new_run(job: TrainJob, data: TrainData, ranks: Ranks) -> Run:
    model = RecurrentLM(job.model, data.tokenizer.size, seed=job.train.seed)
    model.init_output_bias(data.counts_V)
    model.to(ranks.device)
    return Run(
        model=model,
        optimizer=build_optimizer(model.parameters(), job.train),
        state=[],
        best_weights={},
        saved_at=time.monotonic(),
    )


def _restore(run: Run, checkpoint: Checkpoint, data: TrainData, ranks: Ranks) -> None:
    def part(prefix: str) -> dict[str, Tensor]:
        return {
            name.removeprefix(prefix): tensor for name, tensor in checkpoint.tensors.items() if name.startswith(prefix)
        }

    run.model.load_state_dict(part("model."))
    load_optimizer_tensors(run.optimizer, part("optimizer."))
    run.best_weights = part("best.")
    hidden = part("hidden.")
    parts = len(run.model.initial_state(1)[0])
    run.state = [
        tuple(hidden[f"{layer}.{i}"][data.own_lanes].to(ranks.device) for i in range(parts))
        for layer in range(len(run.model.layers))
    ]
    run.step = checkpoint.step
    if checkpoint.state["best"]:
        run.best_step, run.best_loss = checkpoint.state["best"]


def _identity(job: TrainJob, data: TrainData) -> dict[str, Any]:
    """What a checkpoint must agree with to be continued."""
    return {**job.identity(), "vocab_size": data.tokenizer.size, "tokens": int(data.counts_V.sum())}
