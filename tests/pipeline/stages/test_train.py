"""The train stage: what it refuses, and what it reports."""

from pathlib import Path

import pytest

from components.errors import UserError
from components.model.config import ModelConfig
from components.model.folder import load_model
from components.train.config import TrainConfig
from components.train.metrics import read_metrics
from pipeline.config import Config, RuntimeConfig
from pipeline.stages.train import TRAIN
from tests.components.train.jobs import MODEL, make_shard
from tests.pipeline.contexts import context

CONFIG = Config(model=ModelConfig(**MODEL), train=TrainConfig(batch_size=4, bptt=8, epochs=2))  # type: ignore[arg-type]


def test_it_trains_and_sums_up(tmp_path: Path) -> None:
    shard = tmp_path / "shard"
    make_shard(shard)
    ctx = context(tmp_path, TRAIN, CONFIG, {"shard": shard, "vocab": shard})
    metrics = TRAIN.run(ctx)

    assert sorted(path.name for path in ctx.out.iterdir()) == ["metrics.jsonl", "model"]
    model, tokenizer = load_model(ctx.out / "model")
    lines = read_metrics(ctx.out / "metrics.jsonl")
    assert metrics["parameters"] == model.parameter_count
    assert tokenizer.to_json()["tokens"][0] == "w0"
    assert metrics["valid_perplexity"] == min(x["valid_perplexity"] for x in lines if "valid_loss" in x)
    assert metrics["train_loss"] == [x["loss"] for x in lines if "loss" in x][-1]
    assert metrics["steps"] == metrics["best_step"] == len([x for x in lines if "loss" in x])
    assert (metrics["epochs"], metrics["world_size"], metrics["resumed_from_step"]) == (2, 1, None)
    assert metrics["tokens_per_second"] > 0

    again = TRAIN.run(ctx)  # the scratch of a killed attempt: nothing is trained twice
    assert again == metrics | {"resumed_from_step": metrics["steps"]}


def test_lanes_that_workers_cannot_share_are_refused() -> None:
    config = Config(train=TrainConfig(batch_size=10), runtime=RuntimeConfig(workers=4))
    with pytest.raises(UserError, match=r"train\.batch_size=10 .* runtime\.workers=4"):
        TRAIN.check(config)
    TRAIN.check(Config(train=TrainConfig(batch_size=12), runtime=RuntimeConfig(workers=4)))
