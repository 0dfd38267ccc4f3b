"""The project speaks of itself alone, says nothing is left to do, and calls nothing that it has sworn off."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LONGEST_FILE = 400  # lines

# Written in pieces, so that this file does not find itself.
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|NotImplemented" r"Error)\b")
FOREIGN_PATH = re.compile(r"(?<![\w./-])/(wo" r"rk|ro" r"ot|op" r"t|tmp/la" r"b)/")

FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"}
FORBIDDEN_CALLS = {"eval", "exec", "torch.load", "yaml.load", "yaml.unsafe_load", "os.system", "os.popen"}


def files() -> list[Path]:
    """Every file that is, or may become, part of the repository; outside of one, every file of the checkout."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    return [ROOT / name for name in sorted(set(listed.split("\0")) - {"", "LICENSE"}) if (ROOT / name).is_file()]


def texts() -> Iterator[tuple[Path, str]]:
    for file in files():
        data = file.read_bytes()
        if b"\0" not in data:
            yield file, data.decode("utf-8", errors="replace")


def matches(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_nothing_is_left_to_do() -> None:
    assert matches(UNFINISHED) == []


def test_no_path_of_somebodys_machine() -> None:
    assert matches(FOREIGN_PATH) == []


def test_no_file_outgrows_a_head() -> None:
    lengths = {file: len(text.splitlines()) for file, text in texts() if file.suffix == ".py"}
    assert {str(file.relative_to(ROOT)): n for file, n in lengths.items() if n > LONGEST_FILE} == {}


def test_no_room_without_a_name() -> None:
    vague = {"utils", "util", "helpers", "common", "misc", "base", "manager"}
    assert [str(f.relative_to(ROOT)) for f in files() if vague & {f.stem, f.parent.name}] == []


def sins(source: str) -> list[str]:
    """What a module does that ours never do, as `line: what`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found += [(node.lineno, f"import {n.name}") for n in names if top(n.name) in FORBIDDEN_MODULES]
            case ast.ImportFrom(module=str(module)) if top(module) in FORBIDDEN_MODULES:
                found.append((node.lineno, f"import {module}"))
            case ast.ExceptHandler(type=None):
                found.append((node.lineno, "bare except"))
            case ast.Call(func=func, keywords=keywords):
                if ast.unparse(func) in FORBIDDEN_CALLS:
                    found.append((node.lineno, ast.unparse(func)))
                found += [(node.lineno, "shell=") for k in keywords if k.arg == "shell"]
    return [f"{line}: {what}" for line, what in sorted(found)]


def top(module: str) -> str:
    return module.partition(".")[0]


def test_our_code_never_does_what_is_forbidden() -> None:
    ours = [f for f in files() if f.suffix == ".py" and f.relative_to(ROOT).parts[0] in {"pipeline", "components"}]
    assert len(ours) > 20
    assert {str(f.relative_to(ROOT)): found for f in ours if (found := sins(f.read_text(encoding="utf-8")))} == {}


@pytest.mark.parametrize(
    ("source", "sin"),
    [
        ("import pickle", "1: import pickle"),
        ("from pickle import loads", "1: import pickle"),
        ("import joblib.externals", "1: import joblib.externals"),
        ("torch.load(path)", "1: torch.load"),
        ("yaml.load(text, Loader=loader)", "1: yaml.load"),
        ("x = eval(text)", "1: eval"),
        ("run(command, shell=True)", "1: shell="),
        ("try:\n    pass\nexcept:\n    pass", "3: bare except"),
    ],
)
def test_the_search_finds(source: str, sin: str) -> None:
    assert sins(source) == [sin]


def test_the_search_leaves_alone_what_is_allowed() -> None:
    assert sins("import yaml\nyaml.safe_load(text)\nmodel.eval()\ntry:\n    pass\nexcept OSError:\n    pass") == []


def tour() -> set[str]:
    """The paths that the tree in CONTRIBUTING.md names."""
    tree = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("```")[1]
    paths, folders = set(), [""]
    for line in tree.strip().splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        path = folders[depth] + line.split()[0]
        folders[depth + 1 :] = [path]
        paths.add(path)
    return paths


def test_the_tour_visits_every_file() -> None:
    ours = {str(f.relative_to(ROOT)) for f in files() if f.suffix == ".py" and f.stem != "__init__"}
    assert {path for path in ours if not path.startswith("tests/")} == {p for p in tour() if p.endswith(".py")}
    assert all((ROOT / path).exists() for path in tour())
