"""Ray: start it or join it, map parts over it, run a training group on it. Only this file imports ray.

A Ray of our own listens on loopback only and asks for a token that lives in this process and its children. A cluster
that is joined keeps its own rules: the token comes from RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token.
"""

import logging
import os
import re
import secrets
import signal
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from components.errors import UserError
from pipeline.config import RuntimeConfig
from pipeline.store import Attempt, Part

log = logging.getLogger(__name__)

Json = dict[str, Any]

# Set before ray is imported; what the user has set wins.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # else a driver under `uv run` makes every worker build its environment anew
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # the controller's polling; the default of 2 s is felt at every start
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
LOCAL_ENVIRONMENT = {
    # Despite its name the only switch that binds every listener of a single machine to loopback.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "GLOO_SOCKET_IFNAME": "lo",
}
JOINING_ENVIRONMENT = {
    "RAY_NUM_REDIS_GET_RETRIES": "1",  # tries to get in; twenty of them are minutes of silence
    "RAY_BACKEND_LOG_LEVEL": "error",
}
PROBE_SECONDS = 5.0
# glibc gives large blocks back to the kernel and clears them anew at every step; kept, a step takes a fifth less.
TRAINING_ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "8589934592",
    "MALLOC_TOP_PAD_": "268435456",
}
TASK_RETRIES = 3  # of a task whose worker died; an exception of our own code is final
TRAIN_RETRIES = 3  # restarts of the training group, each from the last checkpoint


def cluster_address(runtime: RuntimeConfig) -> str | None:
    """The cluster to join; None to start Ray on this machine."""
    return runtime.address or os.environ.get("RAY_ADDRESS") or None


def probe(runtime: RuntimeConfig) -> None:
    """Raise UserError where the cluster to join has an impossible address, or nothing listens there."""
    address = cluster_address(runtime)
    if address is None or address == "auto":
        return
    match = re.fullmatch(r"(?:ray://)?([^/:\s]+|\[[0-9a-fA-F:]+\]):(\d+)", address)
    if not match:
        raise UserError(
            f"{address} is no address of a Ray cluster; write host:port, ray://host:port or auto in runtime.address or "
            "RAY_ADDRESS"
        )
    try:
        socket.create_connection((match[1].strip("[]"), int(match[2])), timeout=PROBE_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"nothing listens at {address} ({error}); start Ray there, or correct runtime.address or RAY_ADDRESS"
        ) from None


class Cluster:
    """A Ray cluster that starts with the first work it is given."""

    def __init__(self, runtime: RuntimeConfig):
        self.runtime = runtime
        self._started = False

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        if self._started:
            import ray

            ray.shutdown()

    def map_parts(
        self,
        attempt: Attempt,
        function: Callable[..., Json],
        items: Sequence[Mapping[str, Any]],
        *,
        name: str,
        keep: bool,
        cpus: float,
        done: Callable[[int], None],
    ) -> list[Json]:
        """Run a function over parts; `done` hears how many are finished. See `pipeline.stage.MapParts`."""
        parts = [attempt.part(name, index, item, keep) for index, item in enumerate(items)]
        results = {index: result for index, part in enumerate(parts) if (result := part.finished()) is not None}
        done(len(results))
        open_parts = [(index, parts[index], items[index]) for index in range(len(parts)) if index not in results]
        for index, result in self._run_parts(function, open_parts, cpus):
            results[index] = result
            done(len(results))
        return [results[index] for index in range(len(parts))]

    def _run_parts(
        self, function: Callable[..., Json], parts: Sequence[tuple[int, Part, Mapping[str, Any]]], cpus: float
    ) -> Iterator[tuple[int, Json]]:
        """Run parts with a bounded number in flight; yields (index, result) as they finish."""
        if not parts:
            return
        self._start()
        import ray

        run = ray.remote(num_cpus=cpus, max_retries=TASK_RETRIES)(_run_part)
        waiting = iter(parts)
        flying: dict[Any, int] = {}
        limit = self.runtime.task_workers or max(1, int(ray.cluster_resources().get("CPU", 1) // max(cpus, 0.01)))
        while True:
            for index, part, item in waiting:
                flying[run.remote(part, function, dict(item))] = index
                if len(flying) >= limit:
                    break
            if not flying:
                return
            finished, _ = ray.wait(list(flying), num_returns=1)
            yield flying.pop(finished[0]), _result(finished[0])

    def train(self, attempt: Attempt, job: Path) -> None:
        """Run `components.train` on this job with a Ray Train group; it resumes by itself from its checkpoints.

        Ray Train only places the workers and restarts them: checkpoints and metrics are files of the job, so the name
        of each group is new and nothing of Ray's own state is ever resumed.
        """
        self._start()
        from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        trainer = TorchTrainer(
            _train_worker,
            train_loop_config={"job": str(job), "use_gpu": self.runtime.use_gpu},
            scaling_config=ScalingConfig(
                num_workers=self.runtime.workers,
                use_gpu=self.runtime.use_gpu,
                resources_per_worker=self._training_resources(),
            ),
            torch_config=_torch_config(),
            run_config=RunConfig(
                name=f"train-{uuid.uuid4().hex[:8]}",
                storage_path=str(attempt.scratch / "ray"),
                failure_config=FailureConfig(max_failures=TRAIN_RETRIES),
                logging_config=LoggingConfig(log_level="ERROR"),
                worker_runtime_env={"env_vars": TRAINING_ENVIRONMENT},
            ),
        )
        try:
            result = trainer.fit()
        except SystemExit:
            # Ray Train turns ctrl-C into SystemExit(1) while it aborts the group.
            raise KeyboardInterrupt from None
        refused = (result.return_value or {}).get("refused")
        if refused:
            raise UserError(refused)

    def _training_resources(self) -> dict[str, float]:
        """What each worker gets: a GPU and a core, or as many cores as let all workers find a place."""
        import ray

        workers = self.runtime.workers
        if self.runtime.use_gpu:
            gpus = int(ray.cluster_resources().get("GPU", 0))
            if gpus < workers:
                raise UserError(
                    f"runtime.use_gpu asks for {workers} GPUs and the cluster has {gpus}; "
                    "lower runtime.workers or set runtime.use_gpu=false"
                )
            return {"CPU": 1, "GPU": 1}
        return {"CPU": fair_share([int(n["Resources"].get("CPU", 0)) for n in ray.nodes() if n["Alive"]], workers)}

    def _start(self) -> None:
        if self._started:
            return
        address = cluster_address(self.runtime)
        for name, value in (ENVIRONMENT | (JOINING_ENVIRONMENT if address else LOCAL_ENVIRONMENT)).items():
            os.environ.setdefault(name, value)
        if not address and os.environ["RAY_AUTH_MODE"] == "token":
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        import ray

        _hush()
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        on_sigterm = signal.getsignal(signal.SIGTERM)
        try:
            if address:
                ray.init(address=address, **quiet)
            else:
                ray.init(address="local", num_cpus=os.cpu_count(), include_dashboard=False, **quiet)
        except SystemExit:
            raise KeyboardInterrupt from None  # SIGTERM met Ray's handler before ours was back
        except (ConnectionError, RuntimeError, ValueError) as error:
            if not address:
                raise
            reason = str(error).splitlines()[0]
            raise UserError(
                f"no Ray cluster answers at {address} ({reason}); check runtime.address or RAY_ADDRESS, and that "
                "RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH holds the cluster's token"
            ) from None
        self._started = True
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_sigterm)  # Ray's own prints a C++ stack and ends the process


def fair_share(cores: Sequence[int], workers: int) -> int:
    """The most cores that each of the workers can have where nodes have so many; a worker lies on one node."""
    for share in range(max(cores, default=0), 0, -1):
        if sum(node // share for node in cores) >= workers:
            return share
    raise UserError(
        f"runtime.workers is {workers} and the cluster has {sum(cores)} cores; lower it, or give Ray more cores"
    )


def _run_part(part: Part, function: Callable[..., Json], item: Mapping[str, Any]) -> Json:
    return part.run(function, item)


def _result(reference: Any) -> Json:
    """The value of a finished task; what the task raised is raised as what it was."""
    import ray

    try:
        result: Json = ray.get(reference)
        return result
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
        raise RuntimeError(
            f"a worker died {TASK_RETRIES + 1} times on the same part ({type(error).__name__}); most often memory ran "
            "out: lower runtime.task_workers"
        ) from None


def _torch_config() -> Any:
    """Ray Train's settings for PyTorch without its process group, whose rendezvous listens on every interface."""
    from ray.train.backend import Backend
    from ray.train.torch import TorchConfig

    class NoProcessGroup(Backend):  # type: ignore[misc]
        share_cuda_visible_devices = True

    class OwnProcessGroup(TorchConfig):  # type: ignore[misc]
        @property
        def backend_cls(self) -> type[Backend]:
            return NoProcessGroup

    return OwnProcessGroup()


def _train_worker(config: Mapping[str, Any]) -> Json:
    """What each worker of a training group runs. A user's mistake is no failure to retry: it is handed back."""
    from ray.train import get_context
    from ray.train.collective import broadcast_from_rank_zero

    from components.train.loop import train_job
    from components.train.ranks import process_group

    job, context = Path(config["job"]), get_context()
    meeting = job.with_name(f"meeting-{broadcast_from_rank_zero(uuid.uuid4().hex)}")
    try:
        with process_group(meeting, context.get_world_rank(), context.get_world_size(), config["use_gpu"]):
            train_job(job)
    except UserError as error:
        return {"refused": str(error)}
    return {}


def _hush() -> None:
    """Send to the log what Ray's raylet thread prints on our stdout, where `--json` owes its reader one object.

    There is no public switch for it; where a later Ray has moved the function, its lines show again, no more.
    """
    from ray._private import worker

    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda data, *_, **__: log.debug("ray: %s", data)
