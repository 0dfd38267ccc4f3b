"""Killed and continued trainings end where an undisturbed one ends, alone and with two processes."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from components.train.loop import train_job
from components.train.metrics import read_metrics
from tests.components.train.jobs import make_job, make_shard

ROOT = Path(__file__).parents[3]
TRAIN = {"epochs": 6, "max_steps": 170}


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "shard"
    make_shard(folder)
    return folder


def start(folder: Path, processes: int) -> list[subprocess.Popen[bytes]]:
    """`python -m components.train job.json`, once or as the ranks of a group, as torchrun starts them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    group = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "components.train", str(folder / "job.json")],
            cwd=ROOT,
            env=os.environ | group | {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
        )
        for rank in range(processes)
    ]


def finish(folder: Path, processes: int) -> list[dict[str, Any]]:
    for process in start(folder, processes):
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr.decode()
    return read_metrics(folder / "out" / "metrics.jsonl")


def kill_at(folder: Path, processes: int, step: int, victims: slice = slice(None)) -> None:
    """Start, wait until this many steps are done, kill -9."""
    running = start(folder, processes)
    while max((line.get("step", 0) for line in read_metrics(folder / "work" / "metrics.jsonl")), default=0) < step:
        assert all(process.poll() is None for process in running), running[0].communicate()
        time.sleep(0.002)
    for process in running[victims]:
        process.send_signal(signal.SIGKILL)
    for process in running:
        process.communicate(timeout=60)
        assert process.returncode != 0


def losses(lines: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Everything about the steps and validations that does not depend on time."""
    kept = ("step", "epoch", "loss", "learning_rate", "grad_norm", "valid_loss")
    return [tuple(line.get(key) for key in kept) for line in lines if "event" not in line]


def assert_same(one: Path, other: Path) -> None:
    a, b = (load_file(folder / "out" / "model" / "weights.safetensors") for folder in (one, other))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_and_continued_is_bit_exact(tmp_path: Path, shard: Path, processes: int) -> None:
    """With dropout on. Checkpoints come every 0.12 seconds, so that most kills lose some steps."""
    for name in ("undisturbed", "killed"):
        make_job(tmp_path / name, shard, train=TRAIN, checkpoint_minutes=0.002)
    undisturbed = finish(tmp_path / "undisturbed", processes)
    assert [line["step"] for line in undisturbed if "loss" in line] == list(range(1, 171))

    seed = random.randrange(10**6)
    print(f"kills drawn with seed {seed}")
    for step in sorted(random.Random(seed).sample(range(31, 160), {1: 3, 2: 1}[processes])):
        kill_at(tmp_path / "killed", processes, step)
    killed = finish(tmp_path / "killed", processes)

    assert losses(killed) == losses(undisturbed)
    resumed = [line["step"] for line in killed if line.get("event") == "resumed"]
    assert resumed and resumed[-1] > 0
    assert {line["world_size"] for line in killed if "loss" in line} == {processes}
    assert_same(tmp_path / "undisturbed", tmp_path / "killed")


def test_the_death_of_one_worker_ends_the_others(tmp_path: Path, shard: Path) -> None:
    make_job(tmp_path, shard, train={"epochs": 1000})
    kill_at(tmp_path, 2, 5, victims=slice(1, 2))


def test_torchrun_with_two_workers_trains_as_one_does(tmp_path: Path, shard: Path) -> None:
    for name in ("one", "two"):
        make_job(tmp_path / name, shard, model={"dropout": 0.0}, train={"max_steps": 40})
    train_job(tmp_path / "one" / "job.json")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run(
        [*torchrun, "-m", "components.train", str(tmp_path / "two" / "job.json")],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=120,
    )
    one, two = (read_metrics(tmp_path / name / "out" / "metrics.jsonl") for name in ("one", "two"))
    for key in ("loss", "valid_loss"):
        assert [x[key] for x in two if key in x] == pytest.approx([x[key] for x in one if key in x], rel=1e-4)
    assert {line["world_size"] for line in two} == {2}


def test_a_training_goes_on_with_another_number_of_workers(tmp_path: Path, shard: Path) -> None:
    for name in ("one", "both"):
        make_job(tmp_path / name, shard, model={"dropout": 0.0}, train={"max_steps": 40}, checkpoint_minutes=0.0)
    train_job(tmp_path / "one" / "job.json")
    one = read_metrics(tmp_path / "one" / "out" / "metrics.jsonl")
    kill_at(tmp_path / "both", 2, 10)
    both = finish(tmp_path / "both", 1)
    assert [x["loss"] for x in both if "loss" in x] == pytest.approx([x["loss"] for x in one if "loss" in x], rel=1e-4)
    assert {line["world_size"] for line in both} == {1, 2}


def test_a_mistake_is_one_line_on_stderr(tmp_path: Path, shard: Path) -> None:
    make_job(tmp_path, shard, train={"batch_size": 5})
    (tmp_path / "job.json").write_text("{}")
    (process,) = start(tmp_path, 1)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2
    assert stderr.decode().count("\n") == 1 and "job.json" in stderr.decode()
