"""The evaluation as one self-contained HTML page: no request to anywhere, no script, light and dark."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.evaluate import figures

CONTINUATIONS_SHOWN = 12


def render_report(
    *,
    evaluation: Mapping[str, Any],
    drawings: Mapping[str, str],
    rows: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Mapping[str, Any]],
    fingerprints: Mapping[str, str],
) -> str:
    """The page as text.

    `evaluation` is evaluation.json, `drawings` the SVG texts by name, `rows` the lines of samples.jsonl,
    `settings` tables by title, `fingerprints` by stage. Every text is escaped.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    page = Path(__file__).with_name("report.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["figure"] = _figure
    environment.filters["count"] = lambda value: f"{value:,}"
    return environment.from_string(
        page
    ).render(
        evaluation=evaluation,
        headline=_headline(evaluation["metrics"]),
        drawings={name: Markup(_inline(svg)) for name, svg in drawings.items()},  # noqa: S704 (our own drawings)
        samples=[row["text"] for row in rows if row["kind"] == "sample"],
        continuations=[row for row in rows if row["kind"] == "continuation"][:CONTINUATIONS_SHOWN],
        settings=settings,
        fingerprints=fingerprints,
    )


def draw(metrics: Sequence[Mapping[str, Any]], funnel: Mapping[str, Any]) -> dict[str, str]:
    """The figures by name, as SVG text."""
    curve = figures.loss_curve(metrics)
    return ({"loss": curve} if curve else {}) | {"funnel": figures.cleaning_funnel(funnel)}


def _headline(metrics: Mapping[str, Any]) -> list[tuple[str, float | None, str]]:
    return [
        ("Perplexity", metrics["perplexity"], "per token"),
        ("Word perplexity", metrics["word_perplexity"], "per white-space word"),
        ("Bits per byte", metrics["bits_per_byte"], "of UTF-8 text"),
        ("BLEU", metrics["bleu"], "continuations, 0–100"),
        ("chrF", metrics["chrf"], "continuations, 0–100"),
        ("Unigram perplexity", metrics["unigram_perplexity"], "token frequencies alone"),
    ]


def _figure(value: float | None) -> str:
    """Four significant digits as people write them; a dash where there is no figure."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _inline(svg: str) -> str:
    """The drawing as it stands in the page: no prologue, no names, in the page's own colours and size."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<svg ([^>]*?)width="[^"]*" height="[^"]*"|<svg ([^>]*?)height="[^"]*" width="[^"]*"', "<svg", svg)
    for colour, name in ((figures.INK, "ink"), (figures.FAINT, "faint"), (figures.ACCENT, "accent")):
        svg = svg.replace(colour, f"var(--{name})")
    return svg
