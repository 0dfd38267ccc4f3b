import json
import math
from html.parser import HTMLParser

import pytest

from components.evaluate.config import EvaluateConfig
from components.evaluate.figures import cleaning_funnel, loss_curve
from components.evaluate.report import draw, render_report

FUNNEL = {
    "documents_in": 122,
    "kept": {"train": 90, "valid": 8, "test": 9},
    "dropped": {"duplicate": 13},
    "quarantined": 2,
}
METRICS = [{"step": step, "loss": 9 / step, "time": 0.1 * step} for step in range(1, 400)] + [
    {"step": 399, "valid_loss": 2.5},
    {"event": "resumed", "step": 100},
]
EVALUATION = {
    "metrics": {
        "perplexity": 84.125,
        "word_perplexity": 12345.6,
        "bits_per_byte": None,
        "bleu": 0.0,
        "chrf": 21.5,
        "unigram_perplexity": 700.0,
    },
    "counts": {"tokens": 4321, "documents": 9},
    "bleu": {"documents": 9, "reason": None},
    "signatures": {"perplexity": "ppl|v:1", "bleu": None, "chrf": None},
}
ROWS = [
    {"kind": "sample", "text": "<script>alert(1)</script>\nsecond line"},
    {"kind": "continuation", "prompt": "the <b>cat", "continuation": "& dog", "reference": "</html>"},
]


def page(**changes):
    values = {
        "evaluation": EVALUATION,
        "drawings": draw(METRICS, FUNNEL),
        "rows": ROWS,
        "settings": {"Model": {"cell": "lstm", "max_steps": None}},
        "fingerprints": {"train": "ab" * 32},
    }
    return render_report(**{**values, **changes})


class Page(HTMLParser):
    """Collects what a browser would load or run, and whether the tags nest."""

    VOID = ("meta", "br", "link", "img", "input", "hr")

    def __init__(self, text):
        super().__init__()
        self.loads, self.tags, self.open = [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.loads += [v for k, v in attrs if k in ("src", "href", "xlink:href", "action") and not v.startswith("#")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_stands_alone():
    text = page()
    parsed = Page(text)
    assert parsed.open == []
    assert parsed.loads == []
    assert not parsed.tags & {"script", "link", "img", "iframe"}
    assert "url(http" not in text
    assert "@import" not in text


def test_what_a_model_wrote_is_shown_and_not_run():
    text = page()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "the &lt;b&gt;cat" in text
    assert "&amp; dog" in text


def test_figures_are_written_as_people_write_them():
    text = page()
    for shown in (">84.12<", ">12,346<", ">–<", ">0<", ">21.5<", "4,321 tokens"):
        assert shown in text


def test_both_schemes_and_phones_are_provided_for():
    text = page()
    assert "prefers-color-scheme: dark" in text
    assert "width=device-width" in text
    assert "var(--accent)" in text[text.index("<svg") :]


def test_a_missing_bleu_tells_its_reason():
    evaluation = {**EVALUATION, "bleu": {"documents": 0, "reason": "no test document has 20 tokens"}}
    assert "no test document has 20 tokens" in page(evaluation=evaluation, rows=[])


def test_the_same_page_twice():
    assert page() == page()


def test_figures_hold_no_date_and_no_random_id():
    drawings = draw(METRICS, FUNNEL)
    assert drawings == draw(METRICS, FUNNEL)
    assert not any("date" in svg.lower() for svg in drawings.values())


def test_the_loss_curve_ignores_events_times_and_what_is_not_finite():
    bad = [*METRICS, {"step": 500, "loss": float("nan")}, {"step": 501, "loss": None}]
    later = [{**line, "time": 1e6} for line in METRICS]
    assert loss_curve(METRICS) == loss_curve(bad) == loss_curve(later)
    assert loss_curve([{"event": "resumed", "step": 1}]) is None
    assert loss_curve([{"step": 1, "valid_loss": 2.0}]) is not None


@pytest.mark.parametrize("name", ["duplicate", "malformed", "kept: valid", "122", "10.7%"])
def test_the_funnel_accounts_for_every_record(name):
    assert name in cleaning_funnel(FUNNEL)
    assert FUNNEL["documents_in"] == sum(FUNNEL["kept"].values()) + 13 + FUNNEL["quarantined"]


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_a_temperature_that_samples_nothing_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature must be a number above 0"):
        EvaluateConfig(temperature=temperature)


def test_an_odd_reason_cannot_break_the_page():
    funnel = {**FUNNEL, "dropped": {"a<b>&$x_y$": 3}}
    assert Page(page(drawings=draw(METRICS, funnel))).open == []
    assert json.dumps(EVALUATION)
