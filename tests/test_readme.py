"""What the README says is done here, word by word: the demo, its commands, its Python."""

import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import click
import pytest

from tests.runs import Shell, environment, write_corpus

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """`make demo` in a copy of the checkout whose .venv is the one of these tests."""
    folder = tmp_path_factory.mktemp("demo")
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "configs", folder / "configs")
    venv = folder / ".venv"
    venv.mkdir()
    (venv / "bin").symlink_to(BIN)
    (venv / ".installed").touch()
    done = subprocess.run(
        ["make", "demo"], cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=580, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "registered as" in done.stdout
    assert 'pipeline generate --model models:/demo@champion --prompt "The"' in done.stdout
    return Shell(folder)


def test_the_demo_visibly_learned(demo: Shell) -> None:
    result = demo.json("run", "--stage", "all")
    assert {s["status"] for s in result["stages"]} == {"cached"}, "the demo is what the command does without a config"
    assert result["model"]["name"] == "demo"
    assert result["metrics"]["perplexity"] < result["metrics"]["unigram_perplexity"] / 2
    assert result["metrics"]["bits_per_byte"] < 2.2
    assert result["metrics"]["bleu"] > 0


def commands() -> list[str]:
    return [line for block in blocks("sh") for line in block.splitlines()]


@pytest.mark.parametrize("command", commands())
def test_every_command_does_what_it_says(demo: Shell, command: str) -> None:
    if not (demo.folder / "my_texts").exists():
        write_corpus(demo.folder / "my_texts", documents=60)
    (demo.folder / "my.yaml").unlink(missing_ok=True)
    if "my.yaml" in command and "init" not in command:
        demo.run("init", "--input", "my_texts/", "my.yaml")
    variables = environment(demo.folder, PATH=f"{BIN}:/usr/bin:/bin")
    if command.startswith("mlflow ui"):
        serves(command, demo.folder, variables)
        return
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=demo.folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()


def serves(command: str, folder: Path, variables: dict[str, str]) -> None:
    """Start a server, ask it for its page, stop it and its children."""
    process = subprocess.Popen(
        ["bash", "-c", f"exec {command} --port 5093"],
        cwd=folder,
        env=variables,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        limit = time.monotonic() + 120
        while True:
            assert process.poll() is None, "it ended"
            try:
                with urllib.request.urlopen("http://127.0.0.1:5093/", timeout=5) as page:
                    assert b"MLflow" in page.read()
                    return
            except (urllib.error.URLError, OSError):
                assert time.monotonic() < limit, "no page came"
                time.sleep(0.5)
    finally:
        subprocess.run(["kill", "--", f"-{process.pid}"], check=False)
        process.wait(timeout=60)


def test_the_python_runs(demo: Shell) -> None:
    (code,) = blocks("python")
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=demo.folder,
        env=environment(demo.folder),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "log_probability" in done.stdout


def test_every_pipeline_command_anywhere_in_it_is_one_we_have() -> None:
    from pipeline.cli import commands as group

    found = re.findall(r"(?:^|[\s`])(pipeline (?:run|plan|status|generate|score|verify|prune|init)[^`#\n|]*)", README)
    assert len(found) > 10
    for line in found:
        name, *arguments = shlex.split(line)[1:]
        command = group.commands[name]
        arguments = [a for a in arguments if a != "…"]
        if arguments:
            command.make_context(name, arguments, resilient_parsing=False)
        assert isinstance(command, click.Command)


def test_every_command_and_stage_is_in_it() -> None:
    from pipeline.cli import commands as group
    from pipeline.stages import STAGES

    for name in group.commands:
        assert f"`pipeline {name}`" in README
    for stage in STAGES:
        assert f"| {stage.name} |" in README


def test_make_test_is_the_whole_set() -> None:
    steps = subprocess.run(["make", "-n", "test"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for step in ("ruff check .", "ruff format --check .", "mypy", "lint-imports", "pytest"):
        assert step in steps
