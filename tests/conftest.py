"""Settings of the whole test set, and the runs that its parts share."""

import os

# One thread per process: several processes share the cores, and torch's threads wait for each other busily.
# Set before anything imports torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings

from tests.runs import TINY, Finished, Shell, settings, write_corpus

hypothesis_settings.register_profile("pipeline", deadline=None)
hypothesis_settings.load_profile("pipeline")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One run of all stages on a small corpus, made once for all tests, which only read it."""
    shell = Shell(tmp_path_factory.mktemp("finished"))
    write_corpus(shell.folder / "tales")
    arguments = ["--input", "tales", *settings(TINY)]
    done = shell.run("run", *arguments, "--json")
    return Finished(shell, arguments, json.loads(done.stdout), done.stderr)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """The command in an empty folder."""
    return Shell(tmp_path)
