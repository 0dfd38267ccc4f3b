import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.errors import UserError
from pipeline.config import Config, store_path
from pipeline.connection import ENVIRONMENT
from pipeline.registry import FIX, MlflowRegistry, list_models, resolve, version_exists
from pipeline.stage import FilesGone
from pipeline.tracking import Tracker, open_tracker
from tests.pipeline.models import make_model

NAME = "Goethe's corpus.txt"
"""Users name models after their files."""


@pytest.fixture
def tracker(config: Config) -> Tracker:
    tracker = open_tracker(config, store_path(config))
    tracker.start({}, {})
    return tracker


@pytest.fixture
def registry(tracker: Tracker) -> MlflowRegistry:
    return MlflowRegistry(tracker.uri, run_id=tracker.stage("register").run_id, tags={"git_commit": "abc"})


def put(registry: MlflowRegistry, model: Path, fingerprint: str, **metrics: Any) -> int:
    return registry.register(NAME, model, metrics=metrics, tags={"fingerprint": fingerprint})


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_from_candidate_to_champion(registry: MlflowRegistry, tmp_path: Path) -> None:
    first, second = make_model(tmp_path / "1", seed=1), make_model(tmp_path / "2", seed=2)
    assert registry.champion(NAME) is None
    assert put(registry, first, "f1", perplexity=12.5, bleu=None) == 1
    assert registry.champion(NAME) is None
    registry.promote(NAME, 1)
    champion = registry.champion(NAME)
    assert champion is not None and content(champion) == content(first)
    assert put(registry, second, "f2", perplexity=11) == 2

    (model,) = list_models(registry.uri)
    assert (model["name"], model["aliases"]) == (NAME, {"champion": 1, "candidate": 2})
    assert [(v["version"], v["perplexity"], v["run_id"]) for v in model["versions"]] == [
        (1, 12.5, registry.run_id),
        (2, 11.0, registry.run_id),
    ]
    tags = model["versions"][0]["tags"]
    assert (tags["fingerprint"], tags["git_commit"], "metric.bleu" in tags) == ("f1", "abc", False)
    for uri, folder in (
        (f"models:/{NAME}", first),
        (f"models:/{NAME}@champion", first),
        (f"models:/{NAME}@candidate", second),
        (f"models:/{NAME}/1", first),
    ):
        assert content(resolve(uri, registry.uri)) == content(folder)
    assert version_exists(NAME, 2, registry.uri)
    assert not version_exists(NAME, 3, registry.uri)
    assert not version_exists("another", 1, registry.uri)


def test_the_run_knows_its_model(registry: MlflowRegistry, tmp_path: Path) -> None:
    put(registry, make_model(tmp_path / "1"), "f1")
    (output,) = registry.client.get_run(registry.run_id).outputs.model_outputs
    assert registry.client.get_model_version(NAME, "1").run_id == registry.run_id
    assert registry.client.get_logged_model(output.model_id).status == "READY"


def test_a_version_left_by_a_killed_run_is_taken_up(registry: MlflowRegistry, tmp_path: Path) -> None:
    model = make_model(tmp_path / "1", seed=1)
    assert put(registry, model, "f1") == 1
    registry.client.delete_registered_model_alias(NAME, "candidate")
    assert put(registry, model, "f1") == 1
    assert list_models(registry.uri)[0]["aliases"] == {"candidate": 1}
    assert put(registry, model, "f2") == 2
    assert put(registry, make_model(tmp_path / "2", seed=2), "f1") == 3
    assert put(registry, model, "f1") == 1


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("models:/nothing@champion", f"no model is named nothing in sqlite:///.*; there are: {NAME}"),
        (f"models:/{NAME}", "has no alias champion; aliases: @candidate; versions: 1"),
        (f"models:/{NAME}@best", "has no alias best; aliases: @candidate; versions: 1"),
        (f"models:/{NAME}/7", "has no version 7; versions: 1"),
        (f"models:/{NAME}/7/8", "is not a model; write models:/name@alias, models:/name/3 or models:/name"),
        (f"models:/{NAME}@", "is not a model; write"),
        ("models:/", "is not a model; write"),
        ("runs:/abc/model", "is not a model; write"),
    ],
)
def test_unknown_models_are_told(registry: MlflowRegistry, tmp_path: Path, uri: str, message: str) -> None:
    put(registry, make_model(tmp_path / "1"), "f1")
    with pytest.raises(UserError, match=message) as caught:
        resolve(uri, registry.uri)
    assert "\n" not in str(caught.value)
    assert "is not a model" in message or FIX in str(caught.value)


def test_asking_creates_no_database(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert list_models(uri) == []
    assert not version_exists("m", 1, uri)
    with pytest.raises(
        UserError,
        match=r"no model is named m in .*; there is none yet, `pipeline run --stage register --force` makes one",
    ):
        resolve("models:/m", uri)
    assert not list(tmp_path.iterdir())


def test_files_that_are_gone_or_foreign(registry: MlflowRegistry, tmp_path: Path) -> None:
    put(registry, make_model(tmp_path / "1"), "f1")
    folder = resolve(f"models:/{NAME}/1", registry.uri)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "MLmodel").write_text("flavors: {sklearn: {}}")
    registry.client.create_model_version(NAME, str(foreign), registry.run_id)
    with pytest.raises(UserError, match=r"models:/.*/2 was not registered by this pipeline"):
        resolve(f"models:/{NAME}/2", registry.uri)
    shutil.rmtree(folder.parents[1])
    with pytest.raises(UserError, match=r"the files of models:/.*/1 are gone from .*--stage register --force"):
        resolve(f"models:/{NAME}/1", registry.uri)


@pytest.mark.parametrize("gone", [".", "MLmodel", "weights.safetensors"])
def test_a_version_without_its_files_is_no_champion_and_is_not_taken_up(
    registry: MlflowRegistry, tmp_path: Path, gone: str
) -> None:
    model = make_model(tmp_path / "1")
    assert put(registry, model, "f1") == 1
    registry.promote(NAME, 1)
    folder = resolve(f"models:/{NAME}/1", registry.uri).parents[1]
    if gone == ".":
        shutil.rmtree(folder)
    else:
        next(folder.rglob(gone)).unlink()
    with pytest.raises(FilesGone, match=FIX):
        registry.champion(NAME)
    assert put(registry, model, "f1") == 2
    registry.promote(NAME, 2)
    assert content(resolve(f"models:/{NAME}@champion", registry.uri)) == content(model)
    assert put(registry, model, "f1") == 2


def test_reading_writes_nothing_beside_the_database(registry: MlflowRegistry, tmp_path: Path, config: Config) -> None:
    put(registry, make_model(tmp_path / "1"), "f1")
    (store_path(config) / "mlflow.db.lock").unlink(missing_ok=True)
    before = sorted(store_path(config).rglob("*"))
    resolve(f"models:/{NAME}/1", registry.uri)
    assert list_models(registry.uri)
    assert sorted(store_path(config).rglob("*")) == before


def test_a_database_that_another_process_creates_is_waited_for(config: Config) -> None:
    uri = f"sqlite:///{store_path(config)}/mlflow.db"
    with (store_path(config) / "mlflow.db.lock").open("a") as lock, ThreadPoolExecutor() as threads:
        fcntl.flock(lock, fcntl.LOCK_EX)
        asked = threads.submit(list_models, uri)
        try:
            with pytest.raises(TimeoutError):
                asked.result(timeout=1)
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)
        assert asked.result(timeout=30) == []


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(database: Path, folder: Path) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """A real tracking server that keeps artifacts in `folder`."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{database}", "--artifacts-destination", str(folder)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, **ENVIRONMENT, "PATH": path, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}", process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_server_elsewhere_and_a_run_that_outlives_it(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    artifacts = tmp_path / "server"
    artifacts.mkdir()
    model = make_model(tmp_path / "1")
    with server(store_path(config) / "mlflow.db", artifacts) as (uri, process):
        remote = replace(config, runtime=replace(config.runtime, tracking_uri=uri))
        tracker = open_tracker(remote, store_path(config))
        tracker.start({"a": 1}, {})
        stage = tracker.stage("train")
        stage.artifact(model)
        stage.metrics({"loss": 1.0}, step=1)
        stage.flush()
        assert tracker.client.get_run(stage.run_id).data.metrics == {"loss": 1.0}

        registry = MlflowRegistry(uri, run_id=stage.run_id)
        assert put(registry, model, "f1", perplexity=3.0) == 1
        registry.promote(NAME, 1)
        found = resolve(f"models:/{NAME}", uri)
        assert found.is_relative_to(tmp_path / "cache")
        assert content(found) == content(model)
        assert resolve(f"models:/{NAME}", uri) == found
        assert registry.champion(NAME) == found
        assert list((artifacts).rglob("weights.safetensors"))
        assert not (store_path(config) / "mlartifacts").exists()

        (folder,) = (path.parent for path in artifacts.rglob("MLmodel"))
        folder.rename(tmp_path / "away")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another cache"))
        with pytest.raises(FilesGone, match="are gone from mlflow-artifacts:"):
            registry.champion(NAME)
        (tmp_path / "away").rename(folder)
        assert content(resolve(f"models:/{NAME}", uri)) == content(model)

        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        stage.metrics({"loss": 0.5}, step=2)
        stage.finish("FINISHED")
        tracker.finish("FINISHED")
        assert str(tracker.problem).startswith(f"MLflow at {uri} is away and lacks the last 3 records")
        assert caplog.text.count("is away, the run goes on") == 1
        with pytest.raises(UserError, match="no MLflow server answers"):
            list_models(uri)
