"""Reach MLflow: quietly, and in bounded time."""

import fcntl
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from components.errors import UserError
from pipeline.address import public_uri

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_UV_AUTO_DETECT": "false",  # else a uv project in the current directory is copied into the model
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
"""Read by MLflow when it is imported; what the user has set already stays."""

PROBE_SECONDS = 5.0


def connect(uri: str) -> Any:
    """An `MlflowClient` for tracking and registry at this address; an SQLite file is created if need be.

    Raises UserError if nothing answers there or what is there is no MLflow database.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if uri.startswith(("http://", "https://")):
        _probe(uri)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with _creation(uri):
            client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            client.search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = str(error).replace(uri, public_uri(uri)).strip().partition("\n")[0]
        raise UserError(f"MLflow at {public_uri(uri)} cannot be used: {reason}") from None
    return client


def _probe(uri: str) -> None:
    """Any answer will do: MLflow itself would try a dead address for minutes."""
    request = urllib.request.Request(public_uri(uri), headers={"User-Agent": "lm-pipeline"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=PROBE_SECONDS):  # noqa: S310
            pass
    except urllib.error.HTTPError:
        return
    except OSError as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLError):
            return  # the client has certificate settings of its own
        raise UserError(
            f"no MLflow server answers at {public_uri(uri)} ({reason}); start it or correct runtime.tracking_uri"
        ) from None


@contextmanager
def _creation(uri: str) -> Iterator[None]:
    """One process creates an SQLite file, others wait for it: two that both create its tables break each other.

    A file that is there needs no lock of its own, so that a read-only store can be read.
    """
    if not uri.startswith("sqlite:///"):
        yield
        return
    path = Path(uri.removeprefix("sqlite:///").partition("?")[0])
    lock_path = path.with_name(path.name + ".lock")
    if path.is_file() and path.stat().st_size:
        with path.open("rb") as file:
            if file.read(16) != b"SQLite format 3\0":
                raise UserError(f"{path} is not an SQLite database; move it away and a new one is made")
        with suppress(OSError), lock_path.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)  # it may be half made
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with lock_path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
