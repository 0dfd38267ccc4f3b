import hashlib
import logging
import math
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.errors import UserError
from pipeline import connection
from pipeline.address import public_uri, tracking_uri
from pipeline.config import Config, RuntimeConfig, load_config, store_path
from pipeline.connection import connect
from pipeline.tracking import Outbox, Tracker, TrainingCurve, open_tracker

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tracker(config: Config) -> Tracker:
    return open_tracker(config, store_path(config))


def status(tracker: Tracker, run_id: str) -> str:
    return str(tracker.client.get_run(run_id).info.status)


def with_uri(uri: str) -> Config:
    return Config(runtime=RuntimeConfig(tracking_uri=uri))


def test_the_address(tmp_path: Path) -> None:
    assert tracking_uri(Config(runtime=RuntimeConfig(store=str(tmp_path)))) == f"sqlite:///{tmp_path}/mlflow.db"
    assert tracking_uri(with_uri("http://mlflow:5000")) == "http://mlflow:5000"
    for folder in ("./mlruns", "file:///mlruns", "/data/mlruns"):
        with pytest.raises(UserError, match=r"runtime\.tracking_uri .*mlruns is a folder.*sqlite:////"):
            tracking_uri(with_uri(folder))


@pytest.mark.parametrize(
    ("uri", "public"),
    [
        ("https://me:secret@mlflow.example:5000/at", "https://mlflow.example:5000/at"),
        ("https://mlflow.example/?token=secret", "https://mlflow.example/"),
        ("postgresql://me:se@cret@db/mlflow", "postgresql://db/mlflow"),
        ("sqlite:////data/mlflow.db?password=secret", "sqlite:////data/mlflow.db"),
        ("databricks", "databricks"),
    ],
)
def test_public_addresses_hold_no_secrets(uri: str, public: str) -> None:
    assert public_uri(uri) == public


def test_a_run_and_its_stages(tracker: Tracker, tmp_path: Path) -> None:
    long = "x" * 7000
    parent = tracker.start({f"p{n}": n for n in range(150)} | {"long": long}, {"git_commit": "abc"})
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inside.txt").write_text("1")
    (tmp_path / "file.txt").write_text("2")
    with tracker.stage("train", {"fingerprint": "f"}) as stage:
        stage.params({"learning_rate": 0.1})
        stage.metrics({"loss": 2.5, "nan": math.nan, "inf": math.inf, "text": "no", "none": None, "a=b": 1}, 7, 99.5)
        stage.dataset("shard", "d" * 64, "/data/shard", "training")
        stage.artifact(tmp_path / "folder")
        stage.artifact(tmp_path / "file.txt")
    tracker.finish("FINISHED")

    run, child = tracker.client.get_run(parent), tracker.client.get_run(stage.run_id)
    assert len(run.data.params) == 151
    assert len(run.data.params["long"]) <= 6000
    assert hashlib.sha256(long.encode()).hexdigest() in run.data.params["long"]
    assert run.data.tags["git_commit"] == "abc"
    assert (run.info.run_name, child.info.run_name) == ("pipeline", "train")
    assert child.data.tags["mlflow.parentRunId"] == parent
    assert set(child.data.metrics) == {"loss", "nan", "inf", "a_b"}
    assert math.isnan(child.data.metrics["nan"])
    (point,) = tracker.client.get_metric_history(stage.run_id, "loss")
    assert (point.value, point.step, point.timestamp) == (2.5, 7, 99500)
    assert child.inputs.dataset_inputs[0].dataset.digest == "d" * 36
    artifacts = tracker.store / "mlartifacts" / stage.run_id / "artifacts"
    assert (artifacts / "folder" / "inside.txt").read_text() == "1"
    assert (artifacts / "file.txt").read_text() == "2"
    assert {status(tracker, parent), status(tracker, stage.run_id)} == {"FINISHED"}
    assert tracker.problem is None


@pytest.mark.parametrize(("error", "expected"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_a_stage_that_breaks_says_so(tracker: Tracker, error: type[BaseException], expected: str) -> None:
    tracker.start({}, {})
    with pytest.raises(error), tracker.stage("clean") as stage:
        raise error
    assert status(tracker, stage.run_id) == expected


def test_an_experiment_is_found_again_and_restored(config: Config, tracker: Tracker) -> None:
    assert open_tracker(config, store_path(config)).experiment_id == tracker.experiment_id
    tracker.client.delete_experiment(tracker.experiment_id)
    tracker = open_tracker(config, store_path(config))
    tracker.start({}, {})


CHILD = """
import os, signal, sys
from pathlib import Path
from pipeline.config import Config, RuntimeConfig
from pipeline.tracking import open_tracker
store = Path(sys.argv[1])
tracker = open_tracker(Config(runtime=RuntimeConfig(store=str(store))), store)
tracker.start({}, {})
tracker.stage("train")
os.kill(os.getpid(), signal.SIGKILL)
"""


def start_killed(store: Path, cwd: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(store)],
        cwd=cwd,
        env={"PYTHONPATH": str(ROOT), "HOME": str(cwd)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_what_killed_processes_leave_is_closed(config: Config, tracker: Tracker, tmp_path: Path) -> None:
    process = start_killed(store_path(config), tmp_path)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    client, experiment = tracker.client, tracker.experiment_id
    dead = {run.info.run_id for run in client.search_runs([experiment])}
    assert len(dead) == 2
    (tags,) = {
        tuple(sorted(run.data.tags.items()))
        for run in client.search_runs([experiment])
        if "mlflow.parentRunId" not in run.data.tags
    }
    machine, pid, _ = dict(tags)["pipeline.process"].split()
    others = [
        client.create_run(
            experiment, tags={"pipeline.store": str(tracker.store), "pipeline.process": f"x{machine} {pid} 1"}
        ),
        client.create_run(experiment, tags={"pipeline.store": "/elsewhere", "pipeline.process": f"{machine} {pid} 1"}),
        client.create_run(experiment),
    ]
    mine = tracker.start({}, {})  # closes the dead ones
    assert {status(tracker, run) for run in dead} == {"KILLED"}
    assert {status(tracker, run) for run in (mine, *(run.info.run_id for run in others))} == {"RUNNING"}
    assert tracker.close_abandoned() == []


def test_a_process_id_that_is_used_again_is_another_process(tracker: Tracker) -> None:
    import os

    tags = {"pipeline.store": str(tracker.store), "pipeline.process": f"{socket.gethostname()} {os.getpid()} 1"}
    run = tracker.client.create_run(tracker.experiment_id, tags=tags)
    assert tracker.close_abandoned() == [run.info.run_id]


def test_two_processes_create_one_database_in_silence(tmp_path: Path) -> None:
    """MLflow alone breaks here: the second finds half of the tables."""
    here = tmp_path / "here"
    here.mkdir()
    processes = [start_killed(tmp_path / "store", here) for _ in range(2)]
    for process in processes:
        assert process.communicate(timeout=120) == ("", "")
        assert process.returncode == -signal.SIGKILL
    assert not list(here.iterdir())
    assert len(connect(f"sqlite:///{tmp_path}/store/mlflow.db").search_experiments()) == 2


def test_a_dead_address_is_told_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PROBE_SECONDS", 1.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(UserError, match=rf"no MLflow server answers at http://{address} ") as mute:
            connect(f"http://me:secret@{address}")
    with pytest.raises(UserError, match=r"no MLflow server answers at .* start it or correct runtime\.tracking_uri"):
        connect(f"http://{address}")
    assert time.monotonic() - started < 5
    assert "secret" not in str(mute.value)


def test_files_that_are_no_database(tmp_path: Path, empty_database: Path) -> None:
    file = tmp_path / "mlflow.db"
    file.write_text("hello, this is text")
    with pytest.raises(UserError, match=r"mlflow\.db is not an SQLite database"):
        connect(f"sqlite:///{file}")
    import sqlite3

    shutil.copy(empty_database, file)
    with sqlite3.connect(file) as database:
        database.execute("update alembic_version set version_num = 'from_the_future'")
    with pytest.raises(UserError, match=r"MLflow at sqlite:///.*mlflow\.db cannot be used"):
        connect(f"sqlite:///{file}")


@pytest.fixture
def outbox(caplog: pytest.LogCaptureFixture) -> Iterator[Outbox]:
    with caplog.at_level(logging.WARNING):
        yield Outbox("http://me:secret@server")


def test_records_wait_for_a_server_that_is_away(outbox: Outbox, caplog: pytest.LogCaptureFixture) -> None:
    away, arrived = [True], []

    def send(number: int) -> None:
        def call() -> None:
            if away[0]:
                raise ConnectionError("http://me:secret@server is away")
            arrived.append(number)

        outbox.send(call)

    for number in range(3):
        send(number)
    assert (arrived, len(outbox.calls), len(caplog.records)) == ([], 3, 1)
    assert "secret" not in caplog.text
    away[0] = False
    send(3)
    assert arrived == []  # it is left in peace for a while
    outbox.retry_at = 0
    send(4)
    assert arrived == [0, 1, 2, 3, 4]
    assert outbox.refused is None


def test_a_refused_record_does_not_block_the_others(tracker: Tracker) -> None:
    tracker.start({"a": 1}, {})
    assert tracker.parent
    tracker.parent.params({"a": 2})
    tracker.parent.params({"b": 3})
    tracker.finish("FINISHED")
    run = tracker.client.get_run(tracker.parent.run_id)
    assert (run.data.params, run.info.status) == ({"a": "1", "b": "3"}, "FINISHED")
    assert tracker.problem is not None and "MLflow refused a record" in tracker.problem


def test_a_long_training_is_thinned(tracker: Tracker) -> None:
    steps = 2500
    tracker.start({}, {})
    lines: list[dict[str, Any]] = [
        {"step": step, "steps": steps, "epoch": 0, "loss": float(step), "time": 1.0} for step in range(1, steps + 1)
    ]
    validation = {"step": 2000, "epoch": 0, "valid_loss": 1.5, "time": 2.0}
    with tracker.stage("train") as stage:
        curve = TrainingCurve(stage)
        curve.add([*lines, {"event": "resumed", "step": 10, "world_size": 1}])
        curve.add([*lines[1000:], validation, validation])
    points = tracker.client.get_metric_history(stage.run_id, "loss")
    assert [p.step for p in points] == list(range(3, steps + 1, 3))
    assert all(p.value == p.step for p in points)
    assert [p.value for p in tracker.client.get_metric_history(stage.run_id, "valid_loss")] == [1.5]


def test_mlflow_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, pipeline.tracking, pipeline.registry, pipeline.stages.register; print('mlflow' in sys.modules)"
    got = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert got.stdout.strip() == "False"


def test_a_server_of_its_own_decides_where_artifacts_lie(config: Config) -> None:
    uri = f"sqlite:///{store_path(config)}/mlflow.db"
    remote = replace(config, runtime=replace(config.runtime, tracking_uri=uri))
    tracker = open_tracker(remote, Path("/nowhere"))
    assert "nowhere" not in tracker.client.get_experiment(tracker.experiment_id).artifact_location


def test_a_store_that_was_moved_gets_an_experiment_of_its_own(tmp_path: Path, empty_database: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    shutil.copy(empty_database, before / "mlflow.db")
    open_tracker(load_config(store=str(before)), before).start({}, {})
    before.rename(after)
    tracker = open_tracker(load_config(store=str(after)), after)
    run_id = tracker.start({}, {})
    assert tracker.client.get_run(run_id).info.artifact_uri.startswith((after / "mlartifacts").as_uri())
    names = sorted(e.name for e in tracker.client.search_experiments() if e.name != "Default")
    assert names[0] == "demo"
    assert names[1].startswith("demo, before the store was moved")
    assert open_tracker(load_config(store=str(after)), after).experiment_id == tracker.experiment_id
