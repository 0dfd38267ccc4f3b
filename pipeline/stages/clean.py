"""clean: raw sources to documents by split, with an account of every record."""

import json
from dataclasses import asdict
from itertools import chain
from pathlib import Path

from components.clean.config import CleanConfig, CorpusConfig
from components.clean.sources import find_sources
from components.files import hash_file
from pipeline.config import Config
from pipeline.stage import Json, Stage, StageContext


def check(config: Config) -> None:
    """Raise UserError where the corpus is not what the config says."""
    find_sources(config.corpus)


def world(config: Config) -> Json:
    """What the corpus is, wherever it lies: split, name and digest of each source in corpus order."""
    return {"sources": [[s.split, s.name, hash_file(Path(s.path))] for s in find_sources(config.corpus)]}


def run(ctx: StageContext) -> Json:
    """Clean the corpus in three maps: read and repair, find duplicates, publish."""
    from components.clean.clean import clean_part, publish_chunk, quarantined
    from components.clean.duplicates import bucket_count, bucket_file, find_duplicates
    from components.clean.funnel import make_funnel, refuse_empty_splits, refuse_too_many_bad
    from components.clean.read import lines_before, slices

    corpus, clean = ctx.section(CorpusConfig), ctx.section(CleanConfig)
    sources = find_sources(corpus)
    parts = slices(sources, corpus)
    read = ctx.map(
        clean_part,
        [
            {"part": number, "pieces": [asdict(piece) for piece in part], "corpus": corpus, "clean": clean}
            for number, part in enumerate(parts)
        ],
        name="read",
        keep=False,
    )
    before = lines_before(parts, [result["lines"] for result in read])
    chunks = [(name, lines) for result, lines in zip(read, before, strict=True) for name in result["chunks"]]
    bad = chain.from_iterable(quarantined(str(ctx.scratch), name, lines) for name, lines in chunks)
    refuse_too_many_bad(read, clean, bad, ctx.scratch / "quarantine.jsonl")

    wanted = clean.duplicates and not corpus.pretokenized and chunks
    buckets = bucket_count(sum(s.bytes for s in sources)) if wanted else 0
    ctx.map(
        find_duplicates,
        [
            {
                "hashes": [str(ctx.scratch / "hashes" / f"{name}.npy") for name, _ in chunks],
                "bucket": bucket,
                "buckets": buckets,
                "sources": [[s.name, s.split] for s in sources],
            }
            for bucket in range(buckets)
        ],
        name="duplicates",
        keep=False,
    )
    published = ctx.map(
        publish_chunk,
        [
            {
                "scratch": str(ctx.scratch),
                "chunk": name,
                "number": number,
                "duplicates": [str(ctx.scratch / bucket_file(b)) for b in range(buckets)],
                "lines_before": lines,
            }
            for number, (name, lines) in enumerate(chunks)
        ],
        name="publish",
    )

    funnel = make_funnel(read, published, sources, corpus)
    refuse_empty_splits(funnel, corpus)
    (ctx.out / "funnel.json").write_text(json.dumps(funnel, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return {
        "documents_in": funnel["documents_in"],
        **{f"documents_{split}": n for split, n in funnel["kept"].items()},
        **{f"dropped_{reason}": n for reason, n in funnel["dropped"].items()},
        "quarantined": funnel["quarantined"],
        "bytes_kept": sum(funnel["bytes_kept"].values()),
    }


CLEAN = Stage(name="clean", version=1, needs=(), sections=("corpus", "clean"), run=run, check=check, world=world)
