"""MLflow for tests: its tables take seconds to create, so that is done once and the file is copied."""

import shutil
from pathlib import Path

import pytest

from pipeline.config import Config, RuntimeConfig
from pipeline.connection import connect


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    connect(f"sqlite:///{file}")
    return file


@pytest.fixture
def config(tmp_path: Path, empty_database: Path) -> Config:
    """A config whose store, with a space in its name, holds an MLflow database."""
    store = tmp_path / "the store"
    store.mkdir()
    shutil.copy(empty_database, store / "mlflow.db")
    return Config(runtime=RuntimeConfig(store=str(store)))
