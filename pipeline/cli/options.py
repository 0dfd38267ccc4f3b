"""Options that several commands share, and mean the same everywhere."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from pipeline.config import Config

Command = TypeVar("Command", bound=Callable[..., Any])

STAGE_NAMES = ("clean", "vocab", "shard", "train", "evaluate", "register")


def config_options(command: Command) -> Command:
    """--config, --set, --store."""
    for option in reversed(
        (
            click.option(
                "--config",
                "config_file",
                type=click.Path(path_type=Path),
                metavar="FILE",
                help="YAML file of settings.",
            ),
            click.option(
                "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="One setting, e.g. --set train.epochs=2."
            ),
            click.option("--store", metavar="DIR", help="Folder of all artifacts (default: runs)."),
        )
    ):
        command = option(command)
    return command


def run_options(command: Command) -> Command:
    """What decides a run: the config and --stage, --input, --address, --force."""
    for option in reversed(
        (
            click.option(
                "--stage",
                type=click.Choice(("all", *STAGE_NAMES)),
                default="all",
                show_default=True,
                help="Run this stage and what it needs that is missing.",
            ),
            click.option(
                "--input",
                "inputs",
                multiple=True,
                metavar="PATH",
                help="A file, folder or glob of text; may be repeated.",
            ),
            click.option(
                "--address", metavar="A", help="Ray cluster to join (default: RAY_ADDRESS, else this machine)."
            ),
            click.option("--force", is_flag=True, help="Rerun the stage and all that follow."),
        )
    ):
        command = option(command)
    return config_options(command)


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")


def load(
    config_file: Path | None,
    overrides: tuple[str, ...],
    store: str | None,
    *,
    inputs: tuple[str, ...] = (),
    address: str | None = None,
) -> "Config":
    """The config that these options describe."""
    from pipeline.config import load_config

    return load_config(config_file, overrides, inputs=inputs, store=store, address=address)
