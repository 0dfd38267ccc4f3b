"""The guard against foreign packages, with the console script in an environment as pip would leave it."""

import os
import subprocess
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

import lm_pipeline

ROOT = Path(__file__).resolve().parent.parent

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def site_packages(tmp_path: Path) -> Path:
    """An environment with the libraries of this one and, as an editable install has it, the checkout last."""
    venv.create(tmp_path / "venv", symlinks=True)
    [folder] = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (folder / "checkout.pth").write_text(f"{sysconfig.get_path('purelib')}\n{ROOT}\n")
    return folder


@pytest.fixture
def run(tmp_path: Path, site_packages: Path) -> Run:
    """Call the program in a folder, as the installed script or as `python -m pipeline`."""
    script = tmp_path / "venv/bin/pipeline"
    script.write_text("import sys\nfrom lm_pipeline import main\nsys.exit(main())\n")

    def call(*arguments: str, cwd: Path, path: Path | None = None) -> "subprocess.CompletedProcess[str]":
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        if path:
            environment["PYTHONPATH"] = str(path)
        command = [tmp_path / "venv/bin/python", *(arguments or (script, "--help"))]
        return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)

    return call


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The folder a user happens to be in."""
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


def foreign(folder: Path, path: str) -> Path:
    """A package that tells on whoever imports it."""
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("raise SystemExit('the foreign package was imported')\n")
    return file


def assert_refused(done: "subprocess.CompletedProcess[str]", file: Path) -> None:
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert str(file) in done.stderr
    assert done.stderr.count("\n") == 1, "one sentence, no traceback"


def test_an_ordinary_folder_is_fine(run: Run, here: Path) -> None:
    done = run(cwd=here)
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout


@pytest.mark.parametrize("path", ["pipeline/__init__.py", "pipeline.py", "components/__init__.py", "components.py"])
def test_a_foreign_package_in_the_current_folder_is_refused(run: Run, here: Path, path: str) -> None:
    file = foreign(here, path)
    done = run(cwd=here)
    assert_refused(done, file)
    assert "run from another folder" in done.stderr


def test_folders_that_are_no_packages_are_harmless(run: Run, here: Path) -> None:
    (here / "pipeline").mkdir()
    (here / "components").mkdir()
    foreign(here, "pipeline/notes.py")
    assert run(cwd=here).returncode == 0


def test_the_checkout_itself_is_fine(run: Run) -> None:
    assert run(cwd=ROOT).returncode == 0


def test_a_link_to_the_checkout_is_fine(run: Run, here: Path) -> None:
    (here / "link").symlink_to(ROOT)
    assert run(cwd=here / "link").returncode == 0


@pytest.mark.parametrize("name", lm_pipeline.PACKAGES)
def test_a_foreign_package_on_the_path_is_refused(run: Run, here: Path, tmp_path: Path, name: str) -> None:
    file = foreign(tmp_path / "elsewhere", f"{name}/__init__.py")
    done = run(cwd=here, path=tmp_path / "elsewhere")
    assert_refused(done, file)
    assert "PYTHONPATH" in done.stderr


def test_a_foreign_package_that_was_installed_is_refused(run: Run, here: Path, site_packages: Path) -> None:
    file = foreign(site_packages, "pipeline/__init__.py")
    done = run(cwd=here)
    assert_refused(done, file)
    assert "uninstall" in done.stderr


def test_the_module_is_the_same_program(run: Run, here: Path) -> None:
    assert "Usage:" in run("-m", "pipeline", "--help", cwd=here).stdout
    file = foreign(here, "components/__init__.py")
    assert_refused(run("-m", "pipeline", "--help", cwd=here), file)


def test_a_folder_that_was_deleted_is_no_crash(run: Run, here: Path) -> None:
    gone = here / "gone"
    gone.mkdir()
    done = run(
        "-c",
        f"import os; os.rmdir({str(gone)!r}); import lm_pipeline; lm_pipeline.main()",
        "--help",
        cwd=gone,
    )
    assert done.returncode == 0, done.stderr


def test_the_guard_imports_nothing_it_looks_for(run: Run, here: Path) -> None:
    code = (
        "import sys, lm_pipeline; lm_pipeline.foreign_package();"
        "print(sorted({'pipeline', 'components', 'click'} & {*sys.modules}))"
    )
    assert run("-c", code, cwd=here).stdout == "[]\n"
