"""A training from the beginning to the model folder, and what stops it."""

import fcntl
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from components.errors import UserError
from components.model.folder import load_model
from components.model.recurrent import CELLS
from components.model.scoring import score_documents
from components.train import lock, loop
from components.train.loop import TrainingError, train_job
from components.train.metrics import read_metrics
from components.train.ranks import Ranks
from tests.components.train.jobs import WORDS, documents, make_job, make_shard


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "shard"
    make_shard(folder)
    return folder


def trained(folder: Path, shard: Path, **settings: Any) -> list[dict[str, Any]]:
    make_job(folder, shard, **settings)
    train_job(folder / "job.json")
    return read_metrics(folder / "out" / "metrics.jsonl")


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_cell_learns(tmp_path: Path, shard: Path, cell: str, precision: str) -> None:
    settings = {"epochs": 6, "precision": precision}
    lines = trained(tmp_path, shard, model={"cell": cell, "layers": 1}, train=settings, checkpoint_minutes=60.0)
    losses = [line["loss"] for line in lines if "loss" in line]
    perplexities = [line["valid_perplexity"] for line in lines if "valid_perplexity" in line]
    assert len(perplexities) == 6
    assert perplexities[-1] < 0.75 * perplexities[0]
    assert sum(losses[-10:]) < sum(losses[:10])


@pytest.mark.parametrize(("optimizer", "rate"), [("sgd", 2.0), ("adam", 0.01), ("adamw", 0.01)])
def test_every_optimizer_learns(tmp_path: Path, shard: Path, optimizer: str, rate: float) -> None:
    settings = {"optimizer": optimizer, "learning_rate": rate, "epochs": 3}
    lines = trained(tmp_path, shard, model={"cell": "rnn", "layers": 1}, train=settings)
    perplexities = [line["valid_perplexity"] for line in lines if "valid_perplexity" in line]
    assert perplexities[-1] < perplexities[0]


def test_the_metrics_and_the_model_tell_the_same(tmp_path: Path, shard: Path) -> None:
    lines = trained(tmp_path, shard, train={"max_steps": 40})
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 41))
    assert {(line["steps"], line["world_size"]) for line in steps} == {(40, 1)}
    assert all(line["grad_norm"] > 0 and line["tokens_per_second"] > 0 for line in steps)
    validations = [line for line in lines if "valid_loss" in line]
    assert [line["epoch"] for line in validations] == [1, 2]
    assert validations[-1]["step"] == 40  # the end of the training, in the middle of an epoch
    model, tokenizer = load_model(tmp_path / "out" / "model")
    scores = score_documents(model, documents(11, 2), batch_size=1)
    loss = sum(score.sum() for score in scores) / sum(len(score) for score in scores)
    assert loss == pytest.approx(min(line["valid_loss"] for line in validations), rel=1e-6)
    assert tokenizer.token(2) == "w0"


def test_the_best_weights_are_kept_not_the_last(tmp_path: Path, shard: Path) -> None:
    few = tmp_path / "few"
    make_shard(few, {"train": documents(4, 1), "valid": documents(11, 2), "test": []})
    settings = {"epochs": 30, "learning_rate": 0.05, "schedule": "constant"}
    lines = trained(tmp_path, few, model={"cell": "rnn", "dropout": 0.0}, train=settings, checkpoint_minutes=60.0)
    losses = [line["valid_loss"] for line in lines if "valid_loss" in line]
    assert min(losses) < math.log(WORDS + 2) + 1 < losses[-1]  # overfitted, not diverged
    scores = score_documents(load_model(tmp_path / "out" / "model")[0], documents(11, 2), batch_size=4)
    loss = sum(score.sum() for score in scores) / sum(len(score) for score in scores)
    assert loss == pytest.approx(min(losses), rel=1e-6)


def test_clipping_limits_the_update_not_the_figure(tmp_path: Path, shard: Path) -> None:
    loose = trained(tmp_path / "0", shard, train={"max_steps": 1, "clip_norm": 0.0})
    tight = trained(tmp_path / "1", shard, train={"max_steps": 1, "clip_norm": 1e-3})
    assert loose[0]["grad_norm"] == tight[0]["grad_norm"] > 1e-3


def test_a_finished_training_gives_its_outputs_again(tmp_path: Path, shard: Path) -> None:
    trained(tmp_path, shard)
    weights = (tmp_path / "out" / "model" / "weights.safetensors").read_bytes()
    (tmp_path / "out" / "model" / "weights.safetensors").unlink()
    train_job(tmp_path / "job.json")
    assert (tmp_path / "out" / "model" / "weights.safetensors").read_bytes() == weights


def test_another_configuration_starts_from_the_beginning(tmp_path: Path, shard: Path) -> None:
    trained(tmp_path, shard)
    lines = trained(tmp_path, shard, train={"learning_rate": 0.02})
    assert not any("event" in line for line in lines)
    assert [line["step"] for line in lines if "loss" in line][:3] == [1, 2, 3]
    again = trained(tmp_path, shard, train={"learning_rate": 0.02}, fingerprint="0" * 64)
    assert not any("event" in line for line in again)


def test_a_damaged_checkpoint_is_passed_over_and_told(tmp_path: Path, shard: Path) -> None:
    undisturbed = trained(tmp_path, shard)
    newest = max((tmp_path / "work" / "checkpoints").iterdir())
    (newest / "tensors.safetensors").write_bytes(b"")
    train_job(tmp_path / "job.json")
    lines = read_metrics(tmp_path / "out" / "metrics.jsonl")
    events = [line for line in lines if "event" in line]
    assert events[0] == {"event": "checkpoint_damaged", "path": str(newest)}
    assert events[1]["event"] == "resumed"
    assert [(x["step"], x["loss"]) for x in lines if "loss" in x] == [
        (x["step"], x["loss"]) for x in undisturbed if "loss" in x
    ]


def test_a_training_that_runs_away_says_what_to_lower(tmp_path: Path, shard: Path) -> None:
    settings = {
        "optimizer": "sgd",
        "learning_rate": 1e38,
        "clip_norm": 0.0,
        "schedule": "constant",
        "warmup_fraction": 0.0,
    }
    make_job(tmp_path, shard, train=settings)
    with pytest.raises(TrainingError, match=r"step \d+ .*lower train\.learning_rate"):
        train_job(tmp_path / "job.json")
    assert not (tmp_path / "out" / "model").exists()


def test_a_training_that_ends_worse_than_guessing_is_no_success(tmp_path: Path, shard: Path) -> None:
    make_job(tmp_path, shard, train={"learning_rate": 1e6})
    with pytest.raises(TrainingError, match=r"diverged: at step \d+ the validation loss .*train\.learning_rate"):
        train_job(tmp_path / "job.json")
    assert not (tmp_path / "out" / "model").exists()
    with pytest.raises(TrainingError, match="diverged"):  # nor when it is started again
        train_job(tmp_path / "job.json")


def test_a_training_that_runs_away_after_a_good_start_stops(
    tmp_path: Path, shard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"optimizer": "sgd", "learning_rate": 1e6, "clip_norm": 1.0, "warmup_fraction": 0.0, "epochs": 4}
    rate = loop.learning_rate
    monkeypatch.setattr(loop, "learning_rate", lambda step, total, c: rate(step, total, c) * (step > total // 2))
    make_job(tmp_path, shard, train=settings)
    with pytest.raises(TrainingError, match="diverged"):
        train_job(tmp_path / "job.json")
    lines = read_metrics(tmp_path / "work" / "metrics.jsonl")
    assert [line["valid_loss"] < 4 for line in lines if "valid_loss" in line] == [True, True]


def test_a_training_of_one_step_is_one(tmp_path: Path, shard: Path) -> None:
    (validation,) = [line for line in trained(tmp_path, shard, train={"max_steps": 1}) if "valid_loss" in line]
    assert validation["valid_perplexity"] == math.exp(validation["valid_loss"]) < WORDS + 2


def test_two_trainings_do_not_share_a_folder(tmp_path: Path, shard: Path) -> None:
    (tmp_path / "lock").touch()
    alone = Ranks(rank=0, world_size=1, device=torch.device("cpu"))
    with (tmp_path / "lock").open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another training"), lock.sole_owner(tmp_path, alone, 0.3):
            pass
    with lock.sole_owner(tmp_path, alone, 0.3):
        pass


def test_inputs_that_do_not_fit_are_named(tmp_path: Path, shard: Path) -> None:
    with pytest.raises(UserError, match=r"train\.batch_size"):
        trained(tmp_path / "lanes", shard, train={"batch_size": 4000})
    empty = tmp_path / "empty"
    make_shard(empty, {"train": documents(9, 1), "valid": [], "test": []})
    with pytest.raises(UserError, match="validation split is empty"):
        trained(tmp_path / "valid", empty)
    (empty / "tokenizer.json").write_text(
        '{"format": 1, "kind": "word", "lowercase": false, "pretokenized": true, "tokens": ["a"]}'
    )
    with pytest.raises(UserError, match="has 3 tokens but"):
        trained(tmp_path / "tokenizer", empty)
    with pytest.raises(UserError, match=r"index\.json does not exist"):
        trained(tmp_path / "shard", tmp_path / "nowhere")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_gpu_is_told(tmp_path: Path, shard: Path) -> None:
    with pytest.raises(UserError, match=r"runtime\.use_gpu"):
        trained(tmp_path, shard, use_gpu=True)
