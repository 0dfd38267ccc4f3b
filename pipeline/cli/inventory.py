"""pipeline status, pipeline verify, pipeline prune."""

import json
import sys
from typing import Any

import click

from pipeline.cli.options import config_options, json_option, load


@click.command(epilog="Example: pipeline status --store runs")
@config_options
@json_option
def status(as_json: bool, **options: Any) -> None:
    """Show what the store and the registry hold."""
    from pipeline.inventory import overview

    found = overview(load(**options))
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not found["artifacts"] and not found["attempts"]:
        console.print(f"The store {found['store']} is empty; fill it with `pipeline run`.", soft_wrap=True)
        return
    table = Table("stage", "fingerprint", "made", "size", "what came out", box=None, header_style="dim", pad_edge=False)
    for row in found["artifacts"]:
        table.add_row(row["stage"], row["fingerprint"][:12], row["made"], _size(row["bytes"]), row["summary"])
    for row in found["attempts"]:
        state = "[yellow]at work" if row["running"] else "[yellow]unfinished; the same run command goes on with it"
        table.add_row(row["stage"], row["fingerprint"][:12], "", "", state)
    console.print(table)
    if found["models"]:
        table = Table("model", "version", "aliases", "perplexity", box=None, header_style="dim", pad_edge=False)
        for model in found["models"]:
            for version in model["versions"]:
                figure = version.get("perplexity")
                aliases = ", ".join(version["aliases"])
                table.add_row(
                    model["name"], str(version["version"]), aliases, "" if figure is None else f"{figure:.2f}"
                )
        console.print()
        console.print(table)


@click.command(epilog="Example: pipeline verify --json")
@config_options
@json_option
def verify(as_json: bool, **options: Any) -> None:
    """Re-hash every artifact against its manifest. Exit code 1 where something does not match."""
    from pipeline.inventory import verify_all

    rows = verify_all(load(**options))
    wrong = [row for row in rows if row["problems"]]
    if as_json:
        click.echo(json.dumps({"ok": not wrong, "artifacts": rows}, ensure_ascii=False))
    else:
        for row in rows:
            mark = click.style("ok", fg="green") if not row["problems"] else click.style("damaged", fg="red")
            click.echo(f"{row['stage']:<9} {row['fingerprint'][:12]}  {mark}")
            for problem in row["problems"]:
                click.echo(f"          {problem}")
        if wrong:
            # In the stages' order: what follows from the first is rerun with it.
            fix = f"pipeline run --stage {wrong[0]['stage']} --force"
            click.echo(f"Rebuild what is damaged: {fix}", err=True)
    sys.exit(1 if wrong else 0)


@click.command(epilog="Example: pipeline prune --keep 1 --yes")
@click.option(
    "--keep", default=3, show_default=True, type=click.IntRange(min=0), help="Newest runs whose artifacts stay."
)
@click.option("--attempts", is_flag=True, help="Also remove what stopped runs have left to continue from.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_options
@json_option
def prune(keep: int, attempts: bool, yes: bool, as_json: bool, **options: Any) -> None:
    """Remove artifacts that neither a kept run nor a registered version needs."""
    from components.errors import UserError
    from pipeline.inventory import prunable, remove

    config = load(**options)
    doomed = prunable(config, keep=keep, attempts=attempts)
    if not as_json:
        for row in doomed:
            click.echo(f"{row['stage']:<9} {row['fingerprint'][:12]}  {_size(row['bytes'])}")
    if doomed and not yes:
        if as_json or not sys.stdin.isatty():
            raise UserError("add --yes to remove without being asked")
        click.confirm(f"Remove {_size(sum(row['bytes'] for row in doomed))}?", abort=True, err=True)
    remove(config, doomed)
    if as_json:
        click.echo(json.dumps({"removed": doomed}, ensure_ascii=False))
    elif not doomed:
        click.echo("Nothing to remove.")


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
