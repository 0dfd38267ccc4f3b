"""The console script: makes sure the packages Python finds are ours, then hands over to the command line.

`pipeline` and `components` are ordinary words, and Python takes the first package of a name that it meets.
Two strangers come before us: whatever was installed or put on PYTHONPATH under such a name, and whatever lies
in the current folder, which Ray puts in front of the import path of every worker. Both end in import errors
far from their cause, so they are looked for here, without importing anything.
"""

import sys
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("pipeline", "components")


def main() -> None:
    """Run the command line, or say which foreign package is in its way and exit with 2."""
    complaint = foreign_package()
    if complaint:
        sys.stderr.write(f"Error: {complaint}\n")
        sys.exit(2)
    from pipeline.cli import main as command_line

    command_line()


def foreign_package() -> str | None:
    """The sentence about the first package that would be taken for one of ours, None where there is none."""
    ours = Path(__file__).resolve().parent
    for name in PACKAGES:
        # "" is the current folder as the import system means it: absent, not an error, where it was deleted.
        nearby = _foreign(PathFinder.find_spec(name, [""]), ours / name)
        if nearby:
            return (
                f"{nearby} would be imported by workers in place of this program's own package `{name}`; "
                "run from another folder, or rename it"
            )
        installed = _foreign(find_spec(name), ours / name)
        if installed:
            return (
                f"{installed} is imported in place of this program's own package `{name}` ({ours / name}); "
                "take it off PYTHONPATH, or uninstall what brought it"
            )
    return None


def _foreign(spec: ModuleSpec | None, ours: Path) -> Path | None:
    """The file a spec would import, if it is not ours; a folder without __init__.py gives way to any package."""
    if spec is None or spec.origin is None:
        return None
    found = Path(spec.origin)
    return None if found.resolve().parent == ours else found
