"""The real command on a small corpus: real Ray, real MLflow, real training."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PIPELINE = Path(sys.executable).with_name("pipeline")

# Small enough to train in seconds, large enough that nothing is degenerate.
TINY = (
    "vocab.kind=word", "model.layers=1", "model.embedding_size=32", "model.hidden_size=32",
    "train.batch_size=8", "train.bptt=16", "train.epochs=2", "train.learning_rate=1e-2",
    "evaluate.bleu_documents=20", "evaluate.prompt_tokens=4", "evaluate.continuation_tokens=6", "evaluate.samples=2",
)  # fmt: skip


def sentences(count: int, seed: int = 0) -> list[str]:
    """Distinct sentences of a small grammar."""
    draw = random.Random(seed)
    nouns = [f"{a}{b}" for a in ("cat", "dog", "bird", "ship", "river") for b in ("", "s", "let", "man", "land")]
    verbs = ["sees", "finds", "leaves", "follows", "paints", "hears"]
    places = ["in the garden", "by the sea", "under a tree", "on the hill", "at night"]
    return [
        f"The {draw.choice(nouns)} {draw.choice(verbs)} the {draw.choice(nouns)} {draw.choice(places)} {i % 97}."
        for i in range(count)
    ]


def write_corpus(folder: Path, files: int = 3, documents: int = 120, seed: int = 0) -> Path:
    """A folder of .txt files, documents between blank lines, and what can be wrong in a file now and then."""
    folder.mkdir(parents=True)
    lines = sentences(files * documents * 2, seed)
    for number in range(files):
        chunk = lines[number * documents * 2 : (number + 1) * documents * 2]
        blocks = ["\n".join(chunk[i : i + 2]) for i in range(0, len(chunk), 2)]
        (folder / f"part{number}.txt").write_text("\n\n".join([*blocks, blocks[0]]) + "\n", encoding="utf-8")
    return folder


def settings(values: Sequence[str]) -> list[str]:
    """As --set options."""
    return [word for value in values for word in ("--set", value)]


def environment(home: Path, **extra: str) -> dict[str, str]:
    """What a newcomer's shell has; HOME is empty, so that what is written there shows."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", "COLUMNS": "120", **extra}


@dataclass(frozen=True)
class Shell:
    """Runs the command in a folder of its own."""

    folder: Path

    def run(self, *arguments: str, expect: int = 0, **extra: str) -> subprocess.CompletedProcess[str]:
        """Run `pipeline …` and check its exit code."""
        done = subprocess.run(
            [str(PIPELINE), *arguments],
            cwd=self.folder,
            env=environment(self.folder, **extra),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == expect, f"exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
        return done

    def json(self, *arguments: str, expect: int = 0, **extra: str) -> dict[str, Any]:
        """Run `pipeline … --json`; stdout must be one JSON object and nothing else."""
        parsed: dict[str, Any] = json.loads(self.run(*arguments, "--json", expect=expect, **extra).stdout)
        return parsed

    def start(self, *arguments: str, **extra: str) -> subprocess.Popen[str]:
        """Start `pipeline …` and return at once."""
        return subprocess.Popen(
            [str(PIPELINE), *arguments],
            cwd=self.folder,
            env=environment(self.folder, **extra),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@dataclass(frozen=True)
class Finished:
    """A store with one whole run in it. Tests only read it."""

    shell: Shell
    arguments: list[str]
    result: dict[str, Any]
    stderr: str

    @property
    def store(self) -> Path:
        """Its folder."""
        return self.shell.folder / "runs"

    def path(self, stage: str) -> Path:
        """The artifact of a stage."""
        return next(Path(s["path"]) for s in self.result["stages"] if s["name"] == stage)


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 120) -> None:
    """Wait for a condition while a process runs; its early end is a failure."""
    limit = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"it ended too early: {process.communicate()}"
        assert time.monotonic() < limit, "it took too long"
        time.sleep(0.02)
