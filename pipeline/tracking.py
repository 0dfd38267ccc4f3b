"""MLflow runs: a parent for each run of the pipeline, a child for each stage.

A training outlives its tracking server. While the server is away, what should be logged waits in order and
is tried again now and then; `metrics.jsonl` in the store holds every figure in any case. What could not be
delivered by the end is told in `Tracker.problem`.
"""

import hashlib
import json
import logging
import os
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from components.errors import UserError
from pipeline.address import public_uri, tracking_uri
from pipeline.config import Config
from pipeline.connection import connect
from pipeline.process import is_gone, process_name

log = logging.getLogger(__name__)

Status = Literal["FINISHED", "FAILED", "KILLED"]

BATCH = 1000  # metrics in one call: MLflow's limit
PARAMETERS = 100  # parameters in one call: MLflow's limit
FLUSH_SECONDS = 5.0
RETRY_SECONDS = 30.0
PARAMETER_LENGTH = 6000
CURVE_POINTS = 1000
STORE_TAG, PROCESS_TAG = "pipeline.store", "pipeline.process"


def open_tracker(config: Config, store: Path) -> "Tracker":
    """The experiment named `register.name`, created if need be.

    Its artifacts lie beside the store's own SQLite file; a server of your own puts them where it is told to. MLflow
    holds an experiment to the place it was made for, so that of a store that was moved steps aside for a new one.
    Raises UserError like `connect`.
    """
    uri = tracking_uri(config)
    client = connect(uri)  # sets the environment that MLflow reads when it is imported
    from mlflow.exceptions import MlflowException

    own = config.runtime.tracking_uri is None
    location = (store.absolute() / "mlartifacts").as_uri() if own else None
    name = config.register.name
    experiment = client.get_experiment_by_name(name)
    if experiment is not None and own and experiment.artifact_location != location:
        client.rename_experiment(experiment.experiment_id, f"{name}, before the store was moved ({_now()})")
        experiment = None
    if experiment is None:
        try:
            return Tracker(client, uri, client.create_experiment(name, artifact_location=location), store)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        experiment = client.get_experiment_by_name(name)
    if experiment.lifecycle_stage != "active":
        client.restore_experiment(experiment.experiment_id)
    return Tracker(client, uri, experiment.experiment_id, store)


class Outbox:
    """Calls to MLflow in their order; those that find the server away wait for it."""

    def __init__(self, uri: str):
        self.uri = uri
        self.calls: deque[Callable[[], object]] = deque()
        self.retry_at = 0.0
        self.warned = False
        self.refused: str | None = None

    def send(self, call: Callable[[], object]) -> None:
        """Make the call now, or later if the server is away."""
        self.calls.append(call)
        if time.monotonic() >= self.retry_at:
            self.deliver()

    def deliver(self) -> None:
        """Make the calls that wait, up to the first that finds the server away."""
        from mlflow.exceptions import MlflowException

        while self.calls:
            try:
                self.calls[0]()
            except (MlflowException, OSError) as error:
                if _passing(error):
                    self._wait(error)
                    return
                self.refused = self.refused or self._told(error)
                log.warning("MLflow refused a record: %s", self._told(error))
            self.calls.popleft()

    def _wait(self, error: Exception) -> None:
        self.retry_at = time.monotonic() + RETRY_SECONDS
        if not self.warned:
            log.warning(
                "MLflow at %s is away, the run goes on and tries again later: %s",
                public_uri(self.uri),
                self._told(error),
            )
        self.warned = True

    def _told(self, error: Exception) -> str:
        return str(error).replace(self.uri, public_uri(self.uri)).partition("\n")[0]


def _passing(error: Exception) -> bool:
    """Whether the same call may succeed later: the server is away, not at odds with what it was sent."""
    if isinstance(error, OSError):
        return not isinstance(error, FileNotFoundError)
    return int(error.get_http_status_code()) >= 500  # type: ignore[attr-defined]


class Tracker:
    """One run of the pipeline in MLflow."""

    def __init__(self, client: Any, uri: str, experiment_id: str, store: Path):
        self.client = client
        self.uri = uri
        self.experiment_id = experiment_id
        self.store = store.absolute()
        self.outbox = Outbox(uri)
        self.parent: StageRun | None = None

    def start(self, params: Mapping[str, Any], tags: Mapping[str, str], name: str = "pipeline") -> str:
        """Open the parent run and return its id; runs that killed processes left open are closed first."""
        self.close_abandoned()
        self.parent = self._create(name, tags)
        self.parent.params(params)
        return self.parent.run_id

    def stage(self, name: str, tags: Mapping[str, str] | None = None) -> "StageRun":
        """Open the child run of a stage. Raises UserError if the server does not answer."""
        assert self.parent is not None, "start() comes first"
        return self._create(name, {**(tags or {}), "mlflow.parentRunId": self.parent.run_id})

    def finish(self, status: Status) -> None:
        """Close the parent run and deliver what still waits."""
        assert self.parent is not None, "start() comes first"
        self.parent.finish(status)

    @property
    def problem(self) -> str | None:
        """What MLflow lacks, in one sentence; None if it has everything."""
        if self.outbox.calls:
            return (
                f"MLflow at {public_uri(self.uri)} is away and lacks the last {len(self.outbox.calls)} "
                "records of this run; the store has them all"
            )
        return self.outbox.refused and f"MLflow refused a record of this run: {self.outbox.refused}"

    def close_abandoned(self) -> list[str]:
        """Set to KILLED what dead processes of this store and machine left open; return the runs' ids."""
        experiments = [e.experiment_id for e in self.client.search_experiments()]
        running = self.client.search_runs(experiments, "attributes.status = 'RUNNING'", max_results=1000)
        abandoned = [
            run.info.run_id
            for run in running
            if run.data.tags.get(STORE_TAG) == str(self.store) and is_gone(run.data.tags.get(PROCESS_TAG, ""))
        ]
        for run_id in abandoned:
            self.client.set_terminated(run_id, "KILLED")
        return abandoned

    def _create(self, name: str, tags: Mapping[str, str]) -> "StageRun":
        from mlflow.exceptions import MlflowException

        ours = {STORE_TAG: str(self.store), PROCESS_TAG: process_name(os.getpid())}
        try:
            run = self.client.create_run(self.experiment_id, tags={**tags, **ours}, run_name=name)
        except (MlflowException, OSError) as error:
            reason = str(error).replace(self.uri, public_uri(self.uri)).partition("\n")[0]
            raise UserError(f"MLflow at {public_uri(self.uri)} opens no run for {name}: {reason}") from None
        return StageRun(self.client, self.outbox, run.info.run_id)


class StageRun:
    """A run in MLflow, open until `finish`. As a context manager it finishes by how the block ends."""

    def __init__(self, client: Any, outbox: Outbox, run_id: str):
        self.client = client
        self.outbox = outbox
        self.run_id = run_id
        self.buffer: list[Any] = []
        self.flushed = time.monotonic()

    def params(self, values: Mapping[str, Any]) -> None:
        """Log settings, once each. A value beyond MLflow's length is cut and carries its hash."""
        from mlflow.entities import Param

        params = [Param(_name(key), _cut(value)) for key, value in values.items()]
        for first in range(0, len(params), PARAMETERS):
            batch = params[first : first + PARAMETERS]
            self.outbox.send(lambda batch=batch: self.client.log_batch(self.run_id, params=batch))  # type: ignore[misc]

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        from mlflow.entities import RunTag

        tags = [RunTag(key, value) for key, value in values.items()]
        self.outbox.send(lambda: self.client.log_batch(self.run_id, tags=tags))

    def metrics(self, values: Mapping[str, Any], step: int = 0, seconds: float | None = None) -> None:
        """Log the numbers among the values; `seconds` since the epoch is when they were measured (now)."""
        from mlflow.entities import Metric

        stamp = int((time.time() if seconds is None else seconds) * 1000)
        self.buffer += [Metric(_name(key), float(v), stamp, step) for key, v in values.items() if _is_number(v)]
        if len(self.buffer) >= BATCH or time.monotonic() - self.flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send the metrics that were gathered."""
        for first in range(0, len(self.buffer), BATCH):
            batch = self.buffer[first : first + BATCH]
            self.outbox.send(lambda batch=batch: self.client.log_batch(self.run_id, metrics=batch))  # type: ignore[misc]
        self.buffer, self.flushed = [], time.monotonic()

    def dataset(self, name: str, digest: str, source: str, context: str) -> None:
        """Log what was read; `digest` is our own, cut to MLflow's 36 characters, `context` a word."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        origin = json.dumps({"uri": source})
        dataset = Dataset(name=name, digest=digest[:36], source_type="local", source=origin)
        inputs = [DatasetInput(dataset=dataset, tags=[InputTag("mlflow.data.context", context)])]
        self.outbox.send(lambda: self.client.log_inputs(self.run_id, inputs))

    def artifact(self, path: Path) -> None:
        """Copy a file, or a folder under its own name."""
        assert path.exists(), path
        if path.is_dir():
            self.outbox.send(lambda: self.client.log_artifacts(self.run_id, str(path), path.name))
        else:
            self.outbox.send(lambda: self.client.log_artifact(self.run_id, str(path)))

    def finish(self, status: Status) -> None:
        """Send what is left and close the run."""
        self.flush()
        self.outbox.calls.append(lambda: self.client.set_terminated(self.run_id, status))
        self.outbox.deliver()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish("FINISHED")
        else:
            self.finish("FAILED" if issubclass(kind, Exception) else "KILLED")


class TrainingCurve:
    """Logs lines of a training's metrics.jsonl: about a thousand points per step figure, every validation.

    A line that comes twice, after a resumed training cut its file back, is logged once.
    """

    def __init__(self, run: StageRun):
        self.run = run
        self.logged: set[tuple[int, bool]] = set()

    def add(self, records: list[dict[str, Any]]) -> None:
        """Log these lines."""
        for record in records:
            if "event" in record:
                continue
            step, is_validation = record["step"], "valid_loss" in record
            every = -(-record.get("steps", 1) // CURVE_POINTS)
            if (step, is_validation) in self.logged or (not is_validation and step % every):
                continue
            self.logged.add((step, is_validation))
            figures = {key: value for key, value in record.items() if key not in ("step", "steps", "time")}
            self.run.metrics(figures, step, record.get("time"))


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _name(key: str) -> str:
    """A key with only the characters that MLflow takes."""
    return re.sub(r"[^\w\-. :/]", "_", key, flags=re.ASCII)[:250]


def _cut(value: object) -> str:
    text = str(value)
    if len(text) <= PARAMETER_LENGTH:
        return text
    mark = f"... sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    return text[: PARAMETER_LENGTH - len(mark)] + mark
