"""pipeline init."""

from pathlib import Path

import click


@click.command(epilog="Example: pipeline init --input notes/ my.yaml")
@click.argument("file", type=click.Path(path_type=Path), default=Path("pipeline.yaml"))
@click.option("--input", "inputs", multiple=True, metavar="PATH", help="Your text; may be repeated.")
@click.option("--force", is_flag=True, help="Overwrite the file.")
def init(file: Path, inputs: tuple[str, ...], force: bool) -> None:
    """Write a commented config for your own files (default: pipeline.yaml)."""
    from components.errors import UserError
    from pipeline.template import config_template

    if file.exists() and not force:
        raise UserError(f"{file} exists; name another file or add --force")
    try:
        file.write_text(config_template(inputs, str(file)), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{file} cannot be written ({error.strerror}); name another file") from None
    click.echo(f"Wrote {file}. Look through it, then: pipeline run --config {file}")
