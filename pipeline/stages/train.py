"""Train: fit the model on the token shards with the configured group of workers."""

from statistics import median
from typing import Any

from components.errors import UserError
from components.model.config import ModelConfig
from components.shard.lanes import check_lanes
from components.shard.tokens import Index, read_index
from components.train.config import TrainConfig
from components.train.job import TrainJob, write_job
from components.train.metrics import read_metrics
from pipeline.config import Config
from pipeline.stage import Json, Stage, StageContext


def check(config: Config) -> None:
    """Raises UserError where the lanes cannot be shared equally by the workers."""
    lanes, workers = config.train.batch_size, config.runtime.workers
    if lanes % workers:
        raise UserError(
            f"train.batch_size={lanes} cannot be split over runtime.workers={workers}; make it a multiple of {workers}"
        )


def check_splits(index: Index, config: TrainConfig) -> None:
    """Raise UserError, before a worker starts, where a split is too small to train on or to judge by."""
    check_lanes(index.splits["train"].tokens, config.batch_size)
    for split in ("valid", "test"):
        if index.splits[split].tokens < config.bptt:
            raise UserError(
                f"the {split} split has {index.splits[split].tokens} tokens, less than one segment of train.bptt="
                f"{config.bptt}; raise corpus.{split}_fraction, give corpus.{split} more text, or lower train.bptt"
            )


def run(ctx: StageContext) -> Json:
    """Write the job, have it done, and sum up its metrics. Checkpoints live in `ctx.scratch` and survive a kill."""
    check_splits(read_index(ctx.inputs["shard"]), ctx.section(TrainConfig))
    job = TrainJob(
        shard=ctx.inputs["shard"].absolute(),
        tokenizer=(ctx.inputs["vocab"] / "tokenizer.json").absolute(),
        work=ctx.scratch.absolute(),
        out=ctx.out.absolute(),
        model=ctx.section(ModelConfig),
        train=ctx.section(TrainConfig),
        checkpoint_minutes=ctx.runtime.checkpoint_minutes,
        keep_checkpoints=ctx.runtime.keep_checkpoints,
        use_gpu=ctx.runtime.use_gpu,
        fingerprint=ctx.fingerprint,
    )
    path = ctx.scratch / "job.json"
    write_job(path, job)
    ctx.train(path)
    return summary(ctx, read_metrics(ctx.out / "metrics.jsonl"))


def summary(ctx: StageContext, lines: list[dict[str, Any]]) -> Json:
    """The figures of a finished training; it reads the model, so a model that cannot be read fails the stage."""
    from components.model.folder import load_model

    model, _ = load_model(ctx.out / "model")
    updates = [line for line in lines if "loss" in line]
    best = min((line for line in lines if "valid_loss" in line), key=lambda line: line["valid_loss"])
    resumed = [line["step"] for line in lines if line.get("event") == "resumed"]
    return {
        "valid_perplexity": best["valid_perplexity"],
        "best_step": best["step"],
        "train_loss": updates[-1]["loss"],
        "steps": updates[-1]["step"],
        "epochs": updates[-1]["epoch"],
        "parameters": model.parameter_count,
        "tokens_per_second": median(line["tokens_per_second"] for line in updates),
        "resumed_from_step": resumed[-1] if resumed else None,
        "world_size": updates[-1]["world_size"],
    }


TRAIN = Stage(name="train", version=1, needs=("shard", "vocab"), sections=("model", "train"), run=run, check=check)
