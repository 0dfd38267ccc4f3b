"""The report's figures as SVG text: the same bytes for the same numbers, readable on light and on dark."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#7d8086"
FAINT = "#a9adb4"
ACCENT = "#3c8f9e"
"""Mid tones that stand out on white and on black; a page can replace them by its own colours."""

WIDTH_INCHES = 4.7
CURVE_POINTS = 120

Point = tuple[float, float]


def loss_curve(metrics: Sequence[Mapping[str, Any]]) -> str | None:
    """Training and validation loss in nats per token over steps; None where nothing was recorded.

    Training losses are shown as means over equal runs of steps. `metrics` are the lines of metrics.jsonl.
    """
    train = _averaged([(line["step"], line["loss"]) for line in metrics if _finite(line.get("loss"))])
    valid = [(line["step"], line["valid_loss"]) for line in metrics if _finite(line.get("valid_loss"))]
    if not train and not valid:
        return None
    from matplotlib.ticker import MaxNLocator

    def draw(axes: "Axes") -> None:
        axes.plot(*zip(*train, strict=True) if train else ((), ()), color=FAINT, linewidth=1.3, label="train")
        axes.plot(
            *zip(*valid, strict=True) if valid else ((), ()),
            color=ACCENT,
            linewidth=1.8,
            marker="o",
            markersize=4.5,
            label="validation",
        )
        axes.set_xlabel("step")
        axes.set_ylabel("loss, nats per token")
        axes.grid(axis="y", color=FAINT, alpha=0.3, linewidth=0.6)
        axes.legend(frameon=False, loc="upper right", labelcolor=INK)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.margins(x=0.02)

    return _svg("loss", 2.9, draw)


def cleaning_funnel(funnel: Mapping[str, Any]) -> str:
    """Records read, dropped by reason and kept per split, as bars; `funnel` is funnel.json."""
    kept = [(f"kept: {split}", count, ACCENT) for split, count in funnel["kept"].items()]
    reasons = sorted(funnel["dropped"].items(), key=lambda item: (-item[1], item[0]))
    lost = [(reason.replace("_", " "), count, FAINT) for reason, count in reasons]
    if funnel["quarantined"]:
        lost.append(("malformed", funnel["quarantined"], FAINT))
    read = funnel["documents_in"]
    bars = [("read", read, INK), *lost, *kept]

    def draw(axes: "Axes") -> None:
        names, counts, colours = zip(*bars, strict=True)
        rows = range(len(bars))
        axes.barh(rows, counts, color=colours, height=0.62)
        for row, count in zip(rows, counts, strict=True):
            label = f"{count:,} · {count / read:.1%}" if row and read else f"{count:,}"
            axes.annotate(label, (count, row), (5, 0), textcoords="offset points", va="center", fontsize=9)
        axes.set_yticks(rows, names)
        axes.set_ylim(len(bars) - 0.4, -0.6)
        axes.set_xlim(0, max(read, 1) * 1.24)
        axes.xaxis.set_visible(False)
        axes.spines["bottom"].set_visible(False)
        axes.tick_params(axis="y", length=0)

    return _svg("funnel", 0.35 + 0.3 * len(bars), draw)


def _svg(name: str, height_inches: float, draw: Any) -> str:
    """A transparent SVG without date or random ids, its text kept as text."""
    import matplotlib
    from matplotlib.figure import Figure

    style = {
        "svg.hashsalt": name,
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 10,
        "axes.edgecolor": FAINT,
        "axes.labelcolor": INK,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": name != "funnel",
        "text.color": INK,
        "xtick.color": FAINT,
        "ytick.color": FAINT,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
    }
    text = io.StringIO()
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(WIDTH_INCHES, height_inches), layout="constrained")
        draw(figure.add_subplot())
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return text.getvalue()


def _averaged(points: Sequence[Point]) -> list[Point]:
    """At most about CURVE_POINTS points: the mean step and loss of equal runs."""
    run = max(1, len(points) // CURVE_POINTS)
    return [
        (math.fsum(step for step, _ in part) / len(part), math.fsum(loss for _, loss in part) / len(part))
        for part in (points[start : start + run] for start in range(0, len(points), run))
    ]


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
