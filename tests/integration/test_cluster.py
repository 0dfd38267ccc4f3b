"""The same command on a cluster: a real head with a dashboard, a job, a token."""

import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.runs import TINY, Finished, Shell, environment, settings

RAY = Path(sys.executable).with_name("ray")


# A head that listens on loopback only calls itself 127.0.0.1; who joins it must do so, too.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@dataclass(frozen=True)
class Head:
    address: str
    dashboard: str
    variables: dict[str, str]


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """`ray start --head` on loopback, with a token."""
    folder = tmp_path_factory.mktemp("head")
    port, dashboard = free_port(), free_port()
    variables = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
        **LOOPBACK,
    }
    process = subprocess.Popen(
        [
            str(RAY), "start", "--head", "--block", f"--port={port}", "--node-ip-address=127.0.0.1", "--num-cpus=2",
            "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", "--disable-usage-stats",
            "--object-store-memory=200000000",
        ],
        cwd=folder,
        env=environment(folder, **variables, PATH=f"{RAY.parent}{os.pathsep}{os.environ['PATH']}"),
        stdin=subprocess.DEVNULL,
        stdout=(folder / "head.log").open("w"),
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    url = f"http://127.0.0.1:{dashboard}"
    try:
        limit = time.monotonic() + 90
        while not answers(f"{url}/api/version", variables["RAY_AUTH_TOKEN"]):
            assert process.poll() is None, (folder / "head.log").read_text()
            assert time.monotonic() < limit, (folder / "head.log").read_text()
            time.sleep(0.5)
        yield Head(f"127.0.0.1:{port}", url, variables)
    finally:
        for member in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
            member.kill()
        process.wait(timeout=60)


def answers(url: str, token: str | None) -> bool:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def test_without_the_token_the_head_answers_nobody(head: Head, finished: Finished, shell: Shell) -> None:
    assert not answers(f"{head.dashboard}/api/version", None)
    (shell.folder / "tales").symlink_to(finished.shell.folder / "tales")
    done = shell.run("run", "--stage", "clean", *finished.arguments, "--address", head.address, expect=1, **LOOPBACK)
    assert "RAY_AUTH_TOKEN" in done.stderr
    assert "Traceback" not in done.stderr


def test_ray_address_joins_the_cluster_and_makes_the_same_bytes(head: Head, finished: Finished, shell: Shell) -> None:
    (shell.folder / "tales").symlink_to(finished.shell.folder / "tales")
    result = shell.json("run", *finished.arguments, RAY_ADDRESS=head.address, **head.variables)
    made = {s["name"]: s["fingerprint"] for s in result["stages"]}
    assert made == {s["name"]: s["fingerprint"] for s in finished.result["stages"]}
    for stage, pattern in (("shard", "tokens/train/*.parquet"), ("train", "model/weights.safetensors")):
        place = next(Path(s["path"]) for s in result["stages"] if s["name"] == stage)
        assert next(place.glob(pattern)).read_bytes() == next(finished.path(stage).glob(pattern)).read_bytes()


def test_as_a_job_of_the_cluster(head: Head, finished: Finished, shell: Shell) -> None:
    variables = environment(shell.folder, **head.variables)
    command = [
        str(RAY), "job", "submit", "--address", head.dashboard, "--",
        str(RAY.with_name("pipeline")), "run", "--stage", "all", "--input", str(finished.shell.folder / "tales"),
        "--store", str(shell.folder / "runs"), *settings(TINY), "--json",
    ]  # fmt: skip
    done = subprocess.run(
        command, env=variables, cwd=shell.folder, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert '"models:/tales/1"' in done.stdout
    assert "succeeded" in done.stdout + done.stderr
