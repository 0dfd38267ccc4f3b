"""The command line. Commands hold no logic, and what is heavy is imported inside their bodies."""

import sys

import click

from pipeline.cli.init import init
from pipeline.cli.inventory import prune, status, verify
from pipeline.cli.model import generate, score
from pipeline.cli.run import plan, run


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="lm-pipeline", message="lm-pipeline %(version)s")
def commands() -> None:
    """From raw text to a registered recurrent language model.

    \b
    pipeline run                       the demo: an embedded corpus, a few minutes
    pipeline run --input my_texts/     a model of your own text
    pipeline generate --model models:/demo@champion --prompt "Return the"
    """


for command in (run, plan, status, generate, score, verify, prune, init):
    commands.add_command(command)


def main() -> None:
    """Run the command line. A user's mistake is one sentence and exit code 2; a failed stage is exit code 1."""
    from components.errors import UserError

    try:
        commands.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except UserError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped.", err=True)
        sys.exit(130)
    except OSError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
