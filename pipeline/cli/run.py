"""pipeline run, pipeline plan."""

import json
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import json_option, load, run_options

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.runner import Outcome


@click.command(epilog="Example: pipeline run --input notes/ --set train.epochs=8")
@run_options
@json_option
def run(stage: str, force: bool, as_json: bool, **options: Any) -> None:
    """Run the pipeline, or one stage and what it needs.

    What has been made before from the same text and settings is not made again. A run that was stopped, even by a
    power cut, goes on where it was when the same command is given again.
    """
    from pipeline.runner import run as run_stages

    signal.signal(signal.SIGTERM, _stop)
    config = load(**options)
    try:
        result = run_stages(config, stage, force=force)
    except KeyboardInterrupt:
        click.echo("Stopped. The same command continues where it was.", err=True)
        sys.exit(130)
    summary = result.to_json()
    if as_json:
        click.echo(json.dumps(summary, ensure_ascii=False))
    else:
        _show(result.outcomes, summary, config)


@click.command(epilog="Example: pipeline plan --set train.learning_rate=1e-3")
@run_options
@json_option
def plan(stage: str, force: bool, as_json: bool, **options: Any) -> None:
    """Show what a run would do and why: which setting or input has changed."""
    from pipeline.plan import plan as plan_stages

    planned = plan_stages(load(**options), stage, force=force)
    rows = [{"name": p.stage.name, "status": "cached" if p.cached else "run", "why": p.why} for p in planned]
    if as_json:
        click.echo(json.dumps({"stages": rows}, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("stage", "would", "why", box=None, header_style="dim", pad_edge=False)
    for row in rows:
        colour = "green" if row["status"] == "cached" else "yellow"
        table.add_row(row["name"], f"[{colour}]{row['status']}", row["why"])
    Console().print(table)


def _stop(*_: object) -> None:
    """A polite end, as schedulers send it, is the same as ctrl-C: the run is closed as killed and can go on later."""
    raise KeyboardInterrupt


def _show(outcomes: Sequence["Outcome"], summary: dict[str, Any], config: "Config") -> None:
    from rich.console import Console
    from rich.table import Table

    from pipeline.progress import duration
    from pipeline.runner import headline

    console = Console(highlight=False)
    table = Table("stage", "", "time", "what came out", box=None, header_style="dim", pad_edge=False)
    for o in outcomes:
        colour = "green" if o.status == "cached" else "cyan"
        time = duration(o.seconds) if o.status == "ran" else ""
        table.add_row(o.name, f"[{colour}]{o.status}", time, headline(o.name, o.artifact.metrics))
    console.print()
    console.print(table)
    console.print()
    metrics, model = summary["metrics"], summary["model"]
    for label, value in (
        ("test perplexity", metrics["perplexity"]),
        ("  per word", metrics["word_perplexity"]),
        ("  unigram, for comparison", metrics["unigram_perplexity"]),
        ("bits per byte", metrics["bits_per_byte"]),
        ("BLEU of continuations", metrics["bleu"]),
    ):
        if value is not None:
            console.print(f"{label:<26}{value:>10.2f}")
    if model["uri"]:
        console.print(f"{'registered as':<26}{model['uri']:>10}\n")
        _show_next(console, model["name"], config)


def _show_next(console: Any, name: str, config: "Config") -> None:
    from pipeline.address import public_uri, tracking_uri
    from pipeline.config import RuntimeConfig

    options = "" if config.runtime.store == RuntimeConfig().store else f" --store {config.runtime.store}"
    if config.runtime.tracking_uri:
        options += f" --set runtime.tracking_uri={public_uri(config.runtime.tracking_uri)}"
    console.print("[dim]try next[/dim]")
    console.print(f'  pipeline generate --model models:/{name}@champion{options} --prompt "The"', soft_wrap=True)
    console.print(f"  pipeline status{options}", soft_wrap=True)
    if not config.runtime.tracking_uri:
        console.print(f"  mlflow ui --backend-store-uri {tracking_uri(config)}", soft_wrap=True)
