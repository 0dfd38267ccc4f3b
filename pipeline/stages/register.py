"""Put the trained model in the registry and decide whether it becomes the champion.

    train/model ─────────► version N, alias candidate ──► alias champion if there is none, or if N is better
    evaluate/scores ─────► N's loss ────────┐
                                            ├── better is the lower total over the same text
    clean/documents/test ► champion's loss ─┘

A total in nats needs no common vocabulary, only that both models spell out every character, or that both have
the same tokenizer: an `<unk>` is cheap because it does not say which word it stands for.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from components.documents import document_files
from pipeline.address import registry_identity, tracking_uri
from pipeline.config import Config, RegisterConfig, store_path
from pipeline.stage import FilesGone, Json, Stage, StageContext

BATCH_SIZE = 16
"""Documents scored side by side; changes the speed, not the sum."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether the new model is the champion, why, and the total losses in nats if any were compared."""

    promoted: bool
    reason: str
    candidate_nll: float | None = None
    champion_nll: float | None = None


def run(ctx: StageContext) -> Json:
    """Register, compare, promote; writes registration.json.

    A rerun after a kill finds the version it has registered, and comes to the same verdict.
    """
    assert ctx.registry is not None
    name = ctx.section(RegisterConfig).name
    model = ctx.inputs["train"] / "model"
    evaluation = json.loads((ctx.inputs["evaluate"] / "evaluation.json").read_text(encoding="utf-8"))
    try:
        champion, without = ctx.registry.champion(name), "there was no champion"
    except FilesGone:
        champion, without = None, "the files of the champion were gone"
    version = ctx.registry.register(name, model, metrics=evaluation["metrics"], tags={"fingerprint": ctx.fingerprint})
    verdict = _compare(ctx, name, model, champion) if champion else Verdict(promoted=True, reason=without)
    if verdict.promoted:
        ctx.registry.promote(name, version)
    registration = {
        "name": name,
        "version": version,
        "uri": f"models:/{name}/{version}",
        "alias_uri": f"models:/{name}@{'champion' if verdict.promoted else 'candidate'}",
        "registry": registry_identity(ctx.runtime),
        "verdict": vars(verdict),
    }
    (ctx.out / "registration.json").write_text(json.dumps(registration, indent=1) + "\n", encoding="utf-8")
    return {"version": version, "promoted": int(verdict.promoted), "name": name}


def _compare(ctx: StageContext, name: str, model: Path, champion: Path) -> Verdict:
    if _hashes(champion) == _hashes(model):
        return Verdict(promoted=True, reason="it is the same model as the champion")
    if not _comparable(model, champion):
        return Verdict(
            promoted=False,
            reason="it cannot be compared with the champion: their vocabularies differ and not both "
            f"can spell out any text; if you want it, set the alias champion of {name} in MLflow",
        )
    candidate_nll = math.fsum(
        pq.read_table(ctx.inputs["evaluate"] / "scores.parquet", page_checksum_verification=True)["nll"].to_pylist()
    )
    champion_nll = _score(ctx, champion)
    better = candidate_nll < champion_nll
    return Verdict(
        promoted=better,
        reason=f"its loss on the test split is {'' if better else 'not '}below the champion's",
        candidate_nll=candidate_nll,
        champion_nll=champion_nll,
    )


def _score(ctx: StageContext, model: Path) -> float:
    """The model's total loss in nats over the new model's test split."""
    from components.evaluate.perplexity import score_text_slice

    clean = ctx.inputs["clean"]
    shared = {"model": str(model), "clean": str(clean), "split": "test", "batch_size": BATCH_SIZE}
    files = range(len(document_files(clean, "test")))
    items: list[dict[str, Any]] = [{**shared, "first": n, "last": n + 1} for n in files]
    parts = ctx.map(score_text_slice, items, name="champion", keep=False)
    return math.fsum(part["nll"] for part in parts)


def _comparable(model: Path, champion: Path) -> bool:
    from components.vocab.tokenizer import load_tokenizer

    ours, theirs = model / "tokenizer.json", champion / "tokenizer.json"
    if ours.read_bytes() == theirs.read_bytes():
        return True
    return load_tokenizer(ours).lossless and load_tokenizer(theirs).lossless


def _hashes(model: Path) -> tuple[str, str]:
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    return config["weights_sha256"], config["tokenizer_sha256"]


def _world(config: Config) -> Json:
    return {"registry": registry_identity(config.runtime)}


def _check(config: Config) -> None:
    tracking_uri(config)


def _lost(config: Config) -> str | None:
    """The store's own registry can be looked for without opening it; a server is trusted to keep what it has."""
    database = store_path(config) / "mlflow.db"
    if config.runtime.tracking_uri is None and not database.is_file():
        return f"the registry {database} is gone"
    return None


REGISTER = Stage(
    name="register",
    version=1,
    needs=("clean", "train", "evaluate"),
    sections=("register",),
    run=run,
    check=_check,
    world=_world,
    lost=_lost,
)
