"""Judge the model on the test split: perplexity, continuation BLEU, samples, a page that shows them."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from components.errors import UserError
from components.evaluate.bleu import continue_documents
from components.evaluate.config import EvaluateConfig
from components.evaluate.perplexity import (
    SIGNATURE,
    figures,
    merge_scores,
    score_slice,
    score_unigram,
    slices,
)
from components.evaluate.report import draw, render_report
from components.shard.tokens import SplitIndex, load_documents, read_index
from pipeline.stage import Json, Stage, StageContext

SPLIT = "test"


def run(ctx: StageContext) -> Json:
    """Write scores.parquet, samples.jsonl, evaluation.json, report.html and figures/; returns the metrics."""
    settings = ctx.section(EvaluateConfig)
    shard, model = ctx.inputs["shard"], ctx.inputs["train"] / "model"
    funnel = _json(ctx.inputs["clean"] / "funnel.json")
    index = read_index(shard)
    counts = index.splits[SPLIT]
    _check_size(counts.tokens, settings)

    place = {"shard": str(shard), "split": SPLIT}
    nll = _score(ctx, str(model), place, counts, settings)
    (unigram,) = ctx.map(score_unigram, [place], name="unigram", keep=False)
    continuing = {**place, "model": str(model), "spaceless": funnel["spaceless"], "settings": settings}
    (bleu,) = ctx.map(continue_documents, [continuing], name="continue")

    vocabulary = _json(ctx.inputs["vocab"] / "vocab.json")
    lossless = _lossless(model)
    metrics = {
        **figures(nll, counts, lossless=lossless),
        "bleu": bleu["bleu"],
        "chrf": bleu["chrf"],
        "unigram_perplexity": figures(unigram["nll"], counts, lossless=lossless)["perplexity"],
        "test_tokens": counts.tokens,
    }
    evaluation = {
        "format": 1,
        "split": SPLIT,
        "metrics": metrics,
        "counts": {
            name: getattr(counts, name) for name in ("documents", "lines", "tokens", "unknown", "words", "bytes")
        },
        "nll": {"model": nll, "unigram": unigram["nll"]},
        "bleu": {name: bleu[name] for name in ("documents", "reason")},
        "signatures": {
            "perplexity": SIGNATURE,
            "bleu": bleu["bleu_signature"],
            "chrf": bleu["chrf_signature"],
        },
    }
    _write_json(ctx.out / "evaluation.json", evaluation)
    _write_report(ctx, evaluation, funnel, vocabulary)
    return metrics


def _check_size(tokens: int, settings: EvaluateConfig) -> None:
    least = settings.prompt_tokens + settings.continuation_tokens
    if tokens < least:
        raise UserError(
            f"the test split has {tokens} tokens but an evaluation needs {least}: give more text, raise "
            "corpus.test_fraction (or add to corpus.test), or lower evaluate.prompt_tokens"
        )


def _score(ctx: StageContext, model: str, place: Json, counts: SplitIndex, settings: EvaluateConfig) -> float:
    """Score the split in slices; the summed loss in nats."""
    _, offsets = load_documents(ctx.inputs["shard"], read_index(ctx.inputs["shard"]), SPLIT)
    items = [
        {**place, "model": model, "first": first, "last": last, "batch_size": settings.batch_size}
        for first, last in slices(offsets)
    ]
    parts = ctx.map(score_slice, items, name="score", keep=False)
    tokens, nll = merge_scores([ctx.scratch / part["path"] for part in parts], ctx.out / "scores.parquet")
    assert tokens == counts.tokens, f"scored {tokens} tokens of the {counts.tokens} that the index counts"
    return nll


def _lossless(model: Path) -> bool:
    from components.vocab.tokenizer import load_tokenizer

    return load_tokenizer(model / "tokenizer.json").lossless


def _write_report(ctx: StageContext, evaluation: Json, funnel: Json, vocabulary: Json) -> None:
    train = ctx.inputs["train"]
    drawings = draw(_json_lines(train / "metrics.jsonl"), funnel)
    (ctx.out / "figures").mkdir(exist_ok=True)  # a killed attempt may have made it
    for name, svg in drawings.items():
        (ctx.out / "figures" / f"{name}.svg").write_text(svg, encoding="utf-8")
    page = render_report(
        evaluation=evaluation,
        drawings=drawings,
        rows=_json_lines(ctx.out / "samples.jsonl"),
        settings={
            "Model": _json(train / "model" / "config.json")["model"],
            "Vocabulary": {name: vocabulary[name] for name in ("kind", "size")},
            "Evaluation": asdict(ctx.section(EvaluateConfig)),
        },
        fingerprints={name: folder.name for name, folder in ctx.inputs.items()} | {"evaluate": ctx.fingerprint},
    )
    (ctx.out / "report.html").write_text(page, encoding="utf-8")


def _json(path: Path) -> Json:
    data: Json = json.loads(path.read_text(encoding="utf-8"))
    return data


def _json_lines(path: Path) -> list[Json]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _write_json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


EVALUATE = Stage(
    name="evaluate",
    version=1,
    needs=("train", "shard", "vocab", "clean"),
    sections=("evaluate",),
    run=run,
)
