"""Vocab: exact counts over the train split, the tokenizer they give, and how well it fits each split."""

import json
from collections import Counter
from pathlib import Path

from components.documents import SPLITS, document_files
from components.errors import UserError
from components.vocab.building import build_vocabulary
from components.vocab.config import RESERVED, VocabConfig
from components.vocab.counting import bucket_path, count_units, merge_counts
from components.vocab.figures import FIGURES, coverage, fertility, measure_documents
from pipeline.stage import Json, Stage, StageContext

MOST_BUCKETS = 32


def run(ctx: StageContext) -> Json:
    """Count, merge, build, measure."""
    config = ctx.section(VocabConfig)
    clean = ctx.inputs["clean"]
    funnel = json.loads((clean / "funnel.json").read_text(encoding="utf-8"))
    counts = _count(ctx, config, document_files(clean, "train"), pretokenized=funnel["pretokenized"])
    item = {"counts": counts, "config": config, "pretokenized": funnel["pretokenized"]}
    [built] = ctx.map(build_vocabulary, [item], name="build")
    if built["size"] == len(RESERVED):
        raise UserError(f"no token of the train split occurs vocab.min_count = {config.min_count} times: set it lower")
    if config.size is not None and built["size"] < config.size:
        raise UserError(
            f"vocab.size is {config.size:,} but the train split gives only {built['size']:,} tokens; set vocab.size to "
            f"{built['size']} or less, or leave it out to take what there is"
        )
    totals = _measure(ctx, clean)
    covered = {split: coverage(totals[split]) for split in SPLITS}
    fertile = {split: None if funnel["spaceless"] else fertility(totals[split]) for split in SPLITS}
    report = {
        "format": 1,
        "kind": config.kind,
        "size": built["size"],
        "types": built["types"],
        "tokens": {split: totals[split]["tokens"] for split in SPLITS},
        "coverage": covered,
        "fertility": fertile,
    }
    (ctx.out / "vocab.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return {
        "size": built["size"],
        "types": built["types"],
        "tokens_train": totals["train"]["tokens"],
        "coverage_valid": covered["valid"],
        "coverage_test": covered["test"],
        "fertility_train": fertile["train"],
    }


def _count(ctx: StageContext, config: VocabConfig, files: list[Path], *, pretokenized: bool) -> list[str]:
    """The merged counts of the train split, as files in `ctx.scratch`."""
    buckets = max(1, min(len(files), MOST_BUCKETS))
    parts = ctx.map(
        count_units,
        [
            {
                "documents": str(file),
                "part": part,
                "buckets": buckets,
                "config": config,
                "pretokenized": pretokenized,
            }
            for part, file in enumerate(files)
        ],
        name="count",
        keep=False,
    )
    if not sum(part["units"] for part in parts):
        raise UserError("the train split is empty: give corpus more text, or let clean keep more of it")
    merged = ctx.map(
        merge_counts,
        [
            {
                "bucket": bucket,
                "files": [str(ctx.scratch / bucket_path(part, bucket)) for part in range(len(files))],
            }
            for bucket in range(buckets)
        ],
        name="merge",
        keep=False,
    )
    return [str(ctx.scratch / bucket["path"]) for bucket in merged]


def _measure(ctx: StageContext, clean: Path) -> dict[str, Counter[str]]:
    """The figures of each split under the finished tokenizer."""
    files = [(split, file) for split in SPLITS for file in document_files(clean, split)]
    tokenizer = str(ctx.out / "tokenizer.json")
    items = [{"documents": str(file), "tokenizer": tokenizer} for _, file in files]
    measured = ctx.map(measure_documents, items, name="measure", keep=False)
    totals = {split: Counter(dict.fromkeys(FIGURES, 0)) for split in SPLITS}
    for (split, _), part in zip(files, measured, strict=True):
        totals[split].update(part)
    return totals


VOCAB = Stage(name="vocab", version=1, needs=("clean",), sections=("vocab",), run=run)
