"""The training loop.

segment ─► forward ─► loss ─► backward ─► average over ranks ─► clip ─► update ─► metrics.jsonl
                                              every epoch: checkpoint, validation, best weights
"""

import hashlib
import math
import os
import shutil
import sys
import time
from pathlib import Path

import torch

from components.errors import UserError
from components.model.folder import save_model
from components.model.loss import nll_loss
from components.model.recurrent import State
from components.model.scoring import score_documents
from components.train.data import TrainData, load_data
from components.train.job import TrainJob, read_job
from components.train.lock import sole_owner
from components.train.metrics import MetricsLog
from components.train.optimizer import clip_gradients, set_learning_rate
from components.train.ranks import Ranks, join_ranks, set_threads
from components.train.run import Run, save_run, start_run
from components.train.schedule import learning_rate

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""The arithmetic of the recurrence."""
DIVERGED_NATS = 100.0
"""A validation loss per token that no overfitting reaches, only weights that have run away."""
VALID_BATCH = 32
"""Documents scored side by side; changes the speed only."""


class TrainingError(UserError):
    """The training cannot go on with these settings."""


def train_job(job: Path) -> None:
    """Train as the job file says, alone or as one of several processes (torchrun, Ray Train).

    Raises UserError for what the user can mend, TrainingError where the numbers have run away.
    """
    settings = read_job(job)
    with join_ranks(settings.use_gpu) as ranks, sole_owner(settings.work, ranks):
        set_threads(ranks.world_size)
        train(settings, load_data(settings, ranks), ranks)


def train(job: TrainJob, data: TrainData, ranks: Ranks) -> None:
    """Train from the newest checkpoint on, then write `model/` (best weights) and `metrics.jsonl` to `job.out`."""
    config, lanes = job.train, data.lanes
    total = min(config.epochs * lanes.steps, config.max_steps or sys.maxsize)
    log = MetricsLog(job.work / "metrics.jsonl" if ranks.first else Path(os.devnull))
    run = start_run(job, data, ranks, log)
    model, optimizer, parameters = run.model, run.optimizer, list(run.model.parameters())

    if run.step and _epoch_ends(run.step, lanes.steps, total):  # killed after its checkpoint
        validate(run, job, data, ranks, log)
    while run.step < total:
        started = time.perf_counter()
        epoch, segment = divmod(run.step, lanes.steps)
        inputs_BT, targets_BT = (torch.from_numpy(ids).to(ranks.device) for ids in lanes.segment(segment))
        if segment == 0:
            run.state = model.initial_state(len(inputs_BT), DTYPES[config.precision])
        dropout = dropout_generator(config.seed, run.step, ranks)
        rate = learning_rate(run.step, total, config)

        hidden_BTH, state = model(inputs_BT, run.state, dropout)
        hidden_NH, targets_N = hidden_BTH.flatten(0, 1), targets_BT.flatten()
        loss = nll_loss(hidden_NH, *model.output_weights, targets_N, config.precision)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        mean_loss = ranks.average_gradients(parameters, loss)
        norm = clip_gradients(parameters, config.clip_norm)
        _check_finite(run.step + 1, mean_loss, norm, config.learning_rate)
        set_learning_rate(optimizer, rate)
        optimizer.step()

        run.state = detached(state)
        run.step += 1
        log.write(
            step=run.step,
            epoch=epoch + 1,
            loss=mean_loss,
            learning_rate=rate,
            grad_norm=norm,
            tokens_per_second=ranks.world_size * len(targets_N) / (time.perf_counter() - started),
            world_size=ranks.world_size,
            steps=total,
            time=time.time(),
        )
        if _epoch_ends(run.step, lanes.steps, total):
            save_run(run, job, data, ranks, log)
            validate(run, job, data, ranks, log)
        elif ranks.agree(time.monotonic() - run.saved_at >= 60 * job.checkpoint_minutes):
            save_run(run, job, data, ranks, log)
    log.close()
    if ranks.first:
        write_outputs(run, job, data)


def validate(run: Run, job: TrainJob, data: TrainData, ranks: Ranks, log: MetricsLog) -> None:
    """Score the validation split exactly and keep the weights if they are the best so far."""
    scores = score_documents(run.model, data.valid, VALID_BATCH)
    nll, tokens = ranks.sum([sum(score.sum() for score in scores), sum(len(score) for score in scores)])
    loss = nll / tokens
    _check_loss(run, loss, job.train.learning_rate)
    if loss < run.best_loss:
        run.best_step, run.best_loss = run.step, loss
        run.best_weights = {name: weight.cpu().clone() for name, weight in run.model.state_dict().items()}
    log.write(
        step=run.step,
        epoch=math.ceil(run.step / data.lanes.steps),
        valid_loss=loss,
        valid_perplexity=math.exp(loss),
        world_size=ranks.world_size,
    )


def write_outputs(run: Run, job: TrainJob, data: TrainData) -> None:
    """The model folder with the best weights, and the metrics."""
    run.model.load_state_dict(run.best_weights)
    save_model(job.out / "model", run.model, data.tokenizer)
    shutil.copyfile(job.work / "metrics.jsonl", job.out / "metrics.jsonl")


def detached(state: State) -> State:
    """The state without the graph that led to it: gradients flow back no further than a segment."""
    return [tuple(part_BH.detach() for part_BH in parts) for parts in state]


def dropout_generator(seed: int, step: int, ranks: Ranks) -> torch.Generator:
    """The random numbers of one step of one rank: a function of its arguments, so there is nothing to save."""
    digest = hashlib.sha256(f"dropout {seed} {step} {ranks.rank}".encode()).digest()
    return torch.Generator(ranks.device).manual_seed(int.from_bytes(digest[:8]))


def _epoch_ends(step: int, steps: int, total: int) -> bool:
    return step % steps == 0 or step == total


def _check_finite(step: int, loss: float, norm: float, learning_rate: float) -> None:
    """All ranks see the same numbers, so all of them stop; the last checkpoint is from before."""
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise TrainingError(
            f"the training diverged at step {step} (loss {loss}, gradient norm {norm}); "
            f"lower train.learning_rate, e.g. to {learning_rate / 4:.2g}"
        )


def _check_loss(run: Run, loss: float, learning_rate: float) -> None:
    """Every training starts from the unigram model: a first validation worse than guessing by a nat is no model's.

    Later ones may be, where a small corpus is overfitted: the weights of the best one are kept.
    """
    guessing = math.log(run.model.vocab_size)
    if not loss <= (DIVERGED_NATS if run.best_step else guessing + 1):
        raise TrainingError(
            f"the training diverged: at step {run.step} the validation loss is {loss:.4g} nats per token, where "
            f"guessing has {guessing:.3g}; lower train.learning_rate, e.g. to {learning_rate / 4:.2g}"
        )
