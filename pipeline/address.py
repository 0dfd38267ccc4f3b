"""Where MLflow lives, and how that address is written down without its secrets."""

from urllib.parse import urlsplit, urlunsplit

from components.errors import UserError
from pipeline.config import Config, RuntimeConfig, store_path


def tracking_uri(config: Config) -> str:
    """The address of MLflow's tracking and registry: `runtime.tracking_uri`, or the SQLite file of the store.

    Raises UserError for a plain folder, in which MLflow no longer keeps runs.
    """
    uri = config.runtime.tracking_uri
    if uri is None:
        return f"sqlite:///{store_path(config) / 'mlflow.db'}"
    if urlsplit(uri).scheme in ("", "file") and not uri.startswith("databricks"):
        raise UserError(
            f"runtime.tracking_uri {uri} is a folder, in which MLflow no longer keeps runs; "
            "write sqlite:////folder/mlflow.db or the http(s) address of a server"
        )
    return uri


def public_uri(uri: str) -> str:
    """The address without user, password and query: fit for logs, manifests and reports."""
    parts = urlsplit(uri)
    if parts.scheme == "sqlite" or not parts.netloc:
        return uri.partition("?")[0]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def registry_identity(config: RuntimeConfig) -> str:
    """What tells one registry from another: `store` for the store's own, else the public address."""
    return "store" if config.tracking_uri is None else public_uri(config.tracking_uri)
