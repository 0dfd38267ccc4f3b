"""pipeline generate, pipeline score."""

import json
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from pipeline.cli.options import config_options, json_option, load

Command = TypeVar("Command", bound=Callable[..., Any])

model_option = click.option(
    "--model",
    "uri",
    required=True,
    metavar="URI",
    help="models:/name@alias, models:/name/3, a model folder, or a fingerprint of the store.",
)


@click.command(epilog='Example: pipeline generate --model models:/demo@champion --prompt "Return the"')
@model_option
@click.option("--prompt", "prompts", multiple=True, default=("",), help="Text to continue; may be repeated.")
@click.option("--max-tokens", default=60, show_default=True, type=click.IntRange(1, 100_000), help="Tokens to add.")
@click.option(
    "--temperature", default=0.8, show_default=True, type=click.FloatRange(min=0), help="0 takes the likeliest token."
)
@click.option("--top-k", type=click.IntRange(min=1), help="Draw from this many likeliest tokens only.")
@click.option("--seed", default=1, show_default=True, type=int, help="The same seed gives the same text.")
@config_options
@json_option
def generate(
    uri: str,
    prompts: tuple[str, ...],
    max_tokens: int,
    temperature: float,
    top_k: int | None,
    seed: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Continue a text with a trained model."""
    from pipeline.inventory import find_model

    folder = find_model(uri, load(**options))
    from components.generate.language_model import LanguageModel

    model = LanguageModel.load(folder)
    texts = model.generate(list(prompts), max_tokens=max_tokens, temperature=temperature, top_k=top_k, seed=seed)
    if as_json:
        pairs = [{"prompt": prompt, "text": text} for prompt, text in zip(prompts, texts, strict=True)]
        click.echo(json.dumps({"model": uri, "continuations": pairs}, ensure_ascii=False))
        return
    for prompt, text in zip(prompts, texts, strict=True):
        click.echo(click.style(prompt, bold=True) + text)


@click.command(epilog="Example: echo 'Return the name of the file.' | pipeline score --model models:/demo@champion")
@model_option
@click.argument("file", type=click.File("rb"), default="-")
@config_options
@json_option
def score(uri: str, file: Any, as_json: bool, **options: Any) -> None:
    """Log-probability (natural logarithm) and perplexity of every line of FILE, or of standard input.

    Blank lines have none and are left out; --json numbers the lines.
    """
    from components.errors import UserError
    from pipeline.inventory import find_model

    folder = find_model(uri, load(**options))
    from components.generate.language_model import LanguageModel

    try:
        lines = file.read().decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{file.name} is not UTF-8 (byte {error.start}); convert it first") from None
    texts = {number: line.rstrip("\r") for number, line in enumerate(lines, start=1) if line.strip()}
    if not texts:
        raise UserError(f"{file.name} holds no text; give one text a line")
    scores = LanguageModel.load(folder).score(list(texts.values()))
    rows = [
        {
            "line": number,
            "text": text,
            "log_probability": score.log_probability,
            "tokens": score.tokens,
            "perplexity": score.perplexity,
        }
        for (number, text), score in zip(texts.items(), scores, strict=True)
    ]
    if as_json:
        click.echo(json.dumps({"model": uri, "lines": rows}, ensure_ascii=False))
        return
    sys.stdout.write(f"{'log-prob':>12} {'perplexity':>12}  text\n")
    for row in rows:
        sys.stdout.write(f"{row['log_probability']:>12.3f} {row['perplexity']:>12.2f}  {row['text']}\n")
