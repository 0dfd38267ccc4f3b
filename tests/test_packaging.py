"""What an installation is made of: the wheel, the pins, the commands that everybody types."""

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = {
    canonicalize_name(name): version
    for name, _, version in (line.partition("==") for line in (ROOT / "constraints.txt").read_text().splitlines())
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names inside a wheel built from the checkout."""
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "-w",
            out,
            ROOT,
        ],
        check=True,
    )
    [file] = out.glob("*.whl")
    return set(zipfile.ZipFile(file).namelist())


def test_the_wheel_holds_every_file_of_the_packages(wheel: set[str]) -> None:
    ours = {
        str(file.relative_to(ROOT))
        for package in ("pipeline", "components")
        for file in (ROOT / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert ours | {"lm_pipeline.py"} == {name for name in wheel if ".dist-info/" not in name}


def test_the_wheel_brings_licence_and_command(wheel: set[str]) -> None:
    assert {"licenses/LICENSE", "entry_points.txt"} <= {name.partition(".dist-info/")[2] for name in wheel}


def test_every_pin_is_a_name_and_a_version() -> None:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9][\w.-]*==\d[\w.]*", line), line  # in particular no local version such as +cpu
    assert not PINS.keys() & {"lm-pipeline", "pip", "setuptools"}


def test_the_pins_satisfy_the_ranges() -> None:
    for requirement in direct_requirements():
        assert requirement.specifier.contains(PINS[canonicalize_name(requirement.name)]), str(requirement)


def test_the_pins_are_all_that_is_needed_and_nothing_else() -> None:
    """Walks what each installed distribution requires, down from pyproject.toml."""
    needed: set[tuple[str, str]] = set()
    queue = [(canonicalize_name(r.name), extra) for r in direct_requirements() for extra in ("", *r.extras)]
    while queue:
        name, extra = queue.pop()
        if (name, extra) in needed or belongs_to_the_interpreter_or_torch(name):
            continue
        needed.add((name, extra))
        try:
            required = [Requirement(text) for text in requires(name) or ()]
        except PackageNotFoundError:
            pytest.fail(f"{name} is needed but not installed: run `make setup`")
        queue += [
            (canonicalize_name(r.name), wanted)
            for r in required
            if not r.marker or r.marker.evaluate({"extra": extra})
            for wanted in ("", *r.extras)
        ]
    assert {name for name, _ in needed} == PINS.keys()


def direct_requirements() -> list[Requirement]:
    return [Requirement(text) for text in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"])]


def belongs_to_the_interpreter_or_torch(name: str) -> bool:
    """Not pinned: pip's own sibling, and the CUDA libraries that the CUDA build of torch pins itself."""
    return name == "setuptools" or name.startswith(("nvidia-", "cuda-", "triton"))


def test_an_old_python_is_told_so() -> None:
    done = subprocess.run(
        ["make", "--always-make", "setup", "PYTHON=false"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "Python 3.11 or newer is needed, and false is not" in done.stderr


def test_make_explains_every_target() -> None:
    help_text = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    [phony] = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert re.findall(r"make (\w+) ", help_text) == phony.split()


def test_continuous_integration_runs_what_everybody_runs() -> None:
    script = ROOT / ".ci/run"
    assert script.stat().st_mode & 0o111
    assert script.read_text().splitlines()[-1] == "exec make test"
    steps = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["test"]["steps"]
    assert steps[-1] == {"run": ".ci/run"}
    for step in steps[:-1]:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"]), "an action is pinned by its commit"
