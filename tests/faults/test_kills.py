"""Kill -9 at any time, then the same command: it finishes, and what it makes is what an undisturbed run makes."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.runs import Finished, Shell, wait_until

DATA_STAGES = ("clean", "vocab", "shard")


def roots(result: dict[str, Any], stages: tuple[str, ...]) -> dict[str, str]:
    return {
        s["name"]: json.loads((Path(s["path"]) / "manifest.json").read_text())["merkle_root"]
        for s in result["stages"]
        if s["name"] in stages
    }


@pytest.fixture
def again(finished: Finished, tmp_path: Path) -> Shell:
    """An empty store beside the same corpus."""
    (tmp_path / "tales").symlink_to(finished.shell.folder / "tales")
    return Shell(tmp_path)


def kill(process: subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize("seed", range(3))
def test_killed_during_the_data_stages(finished: Finished, again: Shell, seed: int) -> None:
    process = again.start("run", "--stage", "shard", *finished.arguments)
    attempts = again.folder / "runs" / ".tmp"
    wait_until(lambda: any(attempts.glob("clean-*/lock")) or any(again.folder.glob("runs/clean/*")), process)
    time.sleep(random.Random(seed).uniform(0, 8))
    kill(process)
    result = again.json("run", "--stage", "shard", *finished.arguments)
    assert roots(result, DATA_STAGES) == roots(finished.result, DATA_STAGES)
    assert list(attempts.iterdir()) == []


def test_killed_in_the_middle_of_clean(finished: Finished, again: Shell) -> None:
    process = again.start("run", "--stage", "clean", *finished.arguments)
    receipts = again.folder / "runs" / ".tmp"
    wait_until(lambda: any(receipts.glob("clean-*/receipts/*.json")), process)
    kill(process)
    assert not any(again.folder.glob("runs/clean/*/manifest.json")), "it was killed too late to prove anything"
    result = again.json("run", "--stage", "clean", *finished.arguments)
    assert roots(result, ("clean",)) == roots(finished.result, ("clean",))


def test_killed_during_training_continues_from_a_checkpoint(finished: Finished, again: Shell) -> None:
    arguments = [*finished.arguments, "--set", "runtime.checkpoint_minutes=0"]
    process = again.start("run", *arguments)
    checkpoints = again.folder / "runs" / ".tmp"
    wait_until(lambda: len(list(checkpoints.glob("train-*/scratch/checkpoints/step_*"))) > 1, process)
    kill(process)
    result = again.json("run", *arguments)
    train = next(s for s in result["stages"] if s["name"] == "train")
    assert train["status"] == "ran"
    assert train["resumed_from_step"] > 0
    weights = [Path(r) / "model" / "weights.safetensors" for r in (train["path"], finished.path("train"))]
    assert weights[0].read_bytes() == weights[1].read_bytes(), "training is exact across a kill"
    from pipeline.tracking import connect

    client = connect(f"sqlite:///{again.folder}/runs/mlflow.db")
    experiment = client.get_experiment_by_name("tales").experiment_id
    states = {r.info.status for r in client.search_runs([experiment], max_results=100)}
    assert states == {"FINISHED", "KILLED"}, "the run of the killed process does not stay RUNNING"


@pytest.mark.parametrize("signal_sent", [signal.SIGTERM, signal.SIGINT])
def test_stopped_politely_the_run_is_told_as_killed(
    finished: Finished, again: Shell, signal_sent: signal.Signals
) -> None:
    process = again.start("run", *finished.arguments, "--set", "train.epochs=200")
    wait_until(lambda: any((again.folder / "runs" / ".tmp").glob("train-*/scratch/metrics.jsonl")), process)
    process.send_signal(signal_sent)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "The same command continues" in stderr
    assert "Traceback" not in stderr
    from pipeline.tracking import connect

    client = connect(f"sqlite:///{again.folder}/runs/mlflow.db")
    experiment = client.get_experiment_by_name("tales").experiment_id
    states = [r.info.status for r in client.search_runs([experiment], max_results=100)]
    assert "RUNNING" not in states
    assert states.count("KILLED") == 2, "the parent and the train run"


def test_a_failing_stage_tells_cause_and_command(finished: Finished, again: Shell) -> None:
    shard = finished.path("shard")
    again.run("run", "--stage", "shard", *finished.arguments)
    file = next((again.folder / "runs" / "shard" / shard.name).glob("tokens/train/*.parquet"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    done = again.run("run", *finished.arguments, expect=1)
    assert file.name in done.stderr
    assert "pipeline run --stage shard --force" in done.stderr
    assert "Traceback" not in done.stderr
    again.run("run", "--stage", "shard", "--force", *finished.arguments)
    assert roots({"stages": [{"name": "shard", "path": str(file.parents[2])}]}, ("shard",)) == roots(
        finished.result, ("shard",)
    )


def test_a_source_that_changes_while_it_is_read_is_not_cached_as_what_it_was(finished: Finished, shell: Shell) -> None:
    shutil.copytree(finished.shell.folder / "tales", shell.folder / "tales")
    file = shell.folder / "tales" / "part0.txt"
    before = file.read_text()
    process = shell.start("run", "--stage", "clean", *finished.arguments)
    wait_until(lambda: any((shell.folder / "runs" / ".tmp").glob("clean-*/lock")), process)
    file.write_text(before + "\nOne more.\n")
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1, stderr
    assert "part0.txt changed while it was read; give the same command again" in stderr
    file.write_text(before)
    result = shell.json("run", "--stage", "clean", *finished.arguments)
    assert roots(result, ("clean",)) == roots(finished.result, ("clean",))


def test_a_late_twin_leaves_the_artifact_of_the_first(finished: Finished, again: Shell) -> None:
    late = again.start("run", "--stage", "clean", *finished.arguments)
    wait_until((again.folder / "runs" / ".tmp").is_dir, late)
    late.send_signal(signal.SIGSTOP)
    result = again.json("run", "--stage", "clean", *finished.arguments)
    manifest = Path(result["stages"][0]["path"]) / "manifest.json"
    written = manifest.stat()
    late.send_signal(signal.SIGCONT)
    _, stderr = late.communicate(timeout=120)
    assert late.returncode == 0, stderr
    assert (manifest.stat().st_ino, manifest.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
