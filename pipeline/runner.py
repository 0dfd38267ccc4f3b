"""Run the planned stages: open an attempt, give the stage its engines, commit, tell the tracker."""

import dataclasses
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.documents import SPLITS
from components.errors import UserError
from pipeline.address import public_uri, tracking_uri
from pipeline.cluster import Cluster, probe
from pipeline.config import Config, store_path
from pipeline.follow import LineReader
from pipeline.plan import Planned, changed_world, plan
from pipeline.progress import Reporter, Task, duration
from pipeline.provenance import git_commit, provenance
from pipeline.registry import MlflowRegistry
from pipeline.stage import StageContext
from pipeline.store import Artifact, Attempt, Store
from pipeline.tracking import StageRun, Tracker, TrainingCurve, open_tracker

Json = dict[str, Any]

METRICS = (
    "perplexity", "word_perplexity", "bits_per_byte", "bleu", "chrf", "unigram_perplexity", "valid_perplexity",
    "test_tokens",
)  # fmt: skip
POLL_SECONDS = 0.3


class StageFailed(UserError):
    """A stage did not finish. The message says which, why, and how to go on."""

    exit_code = 1


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one stage of a run ended."""

    name: str
    status: str
    seconds: float
    artifact: Artifact
    resumed_from_step: int | None = None


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run has made or found."""

    outcomes: Sequence[Outcome]

    def to_json(self) -> Json:
        """The object that `pipeline run --json` prints; what a partial run does not produce is null."""
        found = {o.name: o.artifact for o in self.outcomes}
        figures: Json = {}
        for name in ("train", "evaluate"):
            figures |= found[name].metrics if name in found else {}
        registered = found["register"].metrics if "register" in found else {}
        if registered:
            registered["uri"] = f"models:/{registered['name']}/{registered['version']}"
        return {
            "stages": [
                {
                    "name": o.name,
                    "status": o.status,
                    "seconds": round(o.seconds, 3),
                    "fingerprint": o.artifact.fingerprint,
                    "path": str(o.artifact.path),
                    "resumed_from_step": o.resumed_from_step,
                }
                for o in self.outcomes
            ],
            "metrics": {name: figures.get(name) for name in METRICS},
            "model": {name: registered.get(name) for name in ("name", "version", "uri")},
            "mlflow_run_id": self.outcomes[-1].artifact.manifest["mlflow_run_id"],
        }


def run(config: Config, target: str = "all", *, force: bool = False, reporter: Reporter | None = None) -> RunResult:
    """Bring every planned stage to its artifact.

    Raises UserError for what can be known before anything starts, StageFailed afterwards.
    """
    reporter = reporter or Reporter()
    planned = plan(config, target, force=force)
    if all(p.cached for p in planned):
        return RunResult(outcomes=[_cached(p.cached) for p in planned if p.cached])
    probe(config.runtime)
    store = Store(store_path(config))
    store.create()
    reporter.say(f"to run: {', '.join(p.stage.name for p in planned if not p.cached)}; results go to {store.root}")
    tracker = open_tracker(config, store.root)
    run_id = tracker.start(_flat(_public(config)), {"git_commit": git_commit() or "unknown"})
    outcomes: list[Outcome] = []
    with _finishing(tracker, reporter), Cluster(config.runtime) as cluster:
        engines = Engines(
            config=config, store=store, tracker=tracker, cluster=cluster, reporter=reporter, run_id=run_id
        )
        for p in planned:
            made = {o.name: o.artifact for o in outcomes}
            outcomes.append(_cached(p.cached) if p.cached else engines.bring(p, made))
            reporter.say(_line(outcomes[-1]))
        assert tracker.parent is not None
        tracker.parent.metrics(RunResult(outcomes=outcomes).to_json()["metrics"])
        tracker.parent.tags({f"fingerprint.{o.name}": o.artifact.fingerprint for o in outcomes})
    return RunResult(outcomes=outcomes)


@dataclass(frozen=True, kw_only=True)
class Engines:
    """What a stage is run with."""

    config: Config
    store: Store
    tracker: Tracker
    cluster: Cluster
    reporter: Reporter
    run_id: str

    def bring(self, planned: Planned, made: Mapping[str, Artifact]) -> Outcome:
        """Run one stage and commit its artifact."""
        name = planned.stage.name
        started, clock = datetime.now(UTC), time.monotonic()
        with (
            _failures(name, self.store),
            self.store.attempt(name, planned.fingerprint, fresh=planned.replace) as attempt,
            self.tracker.stage(name, {"fingerprint": planned.fingerprint}) as record,
            self.reporter.task(name) as task,
        ):
            if not planned.replace and (artifact := self.store.artifact(name, planned.fingerprint)):
                return _cached(artifact)  # somebody else was faster
            record.params(_flat(planned.identity["settings"]))
            for need in planned.stage.needs:
                record.dataset(need, made[need].manifest["merkle_root"], str(made[need].path), f"input of {name}")
            metrics = planned.stage.run(self._context(planned, attempt, record, task, made))
            self._check_unchanged(planned, attempt)
            manifest = {
                "fingerprint": planned.fingerprint,
                "identity": planned.identity,
                "needs": planned.identity["needs"],
                "metrics": metrics,
                "config": _public(self.config),
                "mlflow_run_id": self.run_id,
                **provenance(started),
            }
            artifact = self.store.commit(attempt, name, manifest, replace=planned.replace)
            record.metrics(metrics)
            for path in _worth_logging(artifact):
                record.artifact(path)
        return Outcome(
            name=name,
            status="ran",
            seconds=time.monotonic() - clock,
            artifact=artifact,
            resumed_from_step=metrics.get("resumed_from_step"),
        )

    def _check_unchanged(self, planned: Planned, attempt: Attempt) -> None:
        """Raise UserError where a source is no longer what the fingerprint says; what was read of it is forgotten."""
        changes = changed_world(planned, self.config)
        if changes:
            attempt.clear()
            raise UserError(f"{'; '.join(changes)} while it was read; give the same command again")

    def _context(
        self, planned: Planned, attempt: Attempt, record: StageRun, task: Task, made: Mapping[str, Artifact]
    ) -> StageContext:
        sections = {f.name: getattr(self.config, f.name) for f in fields(self.config)}

        def map_parts(
            function: Callable[..., Json],
            items: Sequence[Mapping[str, Any]],
            *,
            name: str,
            keep: bool = True,
            cpus: float = 1,
        ) -> list[Json]:
            return self.cluster.map_parts(
                attempt,
                function,
                items,
                name=name,
                keep=keep,
                cpus=cpus,
                done=lambda count: task.update(count, len(items), name),
            )

        def train(job: Path) -> None:
            with _following(attempt.scratch / "metrics.jsonl", TrainingCurve(record), task):
                self.cluster.train(attempt, job)

        return StageContext(
            stage=planned.stage.name,
            fingerprint=planned.fingerprint,
            sections={type(sections[name]): sections[name] for name in planned.stage.sections},
            runtime=self.config.runtime,
            inputs={name: made[name].path for name in planned.stage.needs},
            out=attempt.out,
            scratch=attempt.scratch,
            map=map_parts,
            train=train,
            registry=MlflowRegistry(tracking_uri(self.config), run_id=record.run_id, tags=_version_tags(made)),
        )


@contextmanager
def _finishing(tracker: Tracker, reporter: Reporter) -> Iterator[None]:
    """Close the tracker's run with how the block really ended."""
    try:
        yield
    except Exception:
        tracker.finish("FAILED")
        raise
    except BaseException:
        tracker.finish("KILLED")
        raise
    tracker.finish("FINISHED")
    if tracker.problem:
        reporter.say(f"Warning: {tracker.problem}")


@contextmanager
def _failures(name: str, store: Store) -> Iterator[None]:
    """Turn what a stage raises into one sentence; the traceback of what we did not foresee goes to a file."""
    try:
        yield
    except UserError as error:
        raise StageFailed(f"stage {name} stopped: {error}") from error
    except Exception as error:
        details = store.root / ".tmp" / f"{name}-error.log"
        details.parent.mkdir(parents=True, exist_ok=True)
        details.write_text(traceback.format_exc(), encoding="utf-8")
        first = str(error).strip().partition("\n")[0]
        raise StageFailed(
            f"stage {name} failed: {type(error).__name__}: {first}; details are in {details}; "
            "the same command continues with the parts that are finished"
        ) from error


@contextmanager
def _following(path: Path, curve: TrainingCurve, task: Task) -> Iterator[None]:
    """Mirror a growing metrics.jsonl to MLflow and to the screen while the block runs."""
    reader, stop = LineReader(path), threading.Event()

    def mirror() -> None:
        records = reader.poll()
        curve.add(records)
        _show_step(records, task)

    def follow() -> None:
        while not stop.wait(POLL_SECONDS):
            mirror()

    thread = threading.Thread(target=follow, name="follow-training", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        mirror()


def _show_step(records: Sequence[Json], task: Task) -> None:
    steps = [r for r in records if "loss" in r]
    if not steps:
        return
    last = steps[-1]
    note = f"loss {last['loss']:.3f}, {last['tokens_per_second']:,.0f} tokens/s"
    valid = [r for r in records if "valid_perplexity" in r]
    if valid:
        note += f", valid perplexity {valid[-1]['valid_perplexity']:.1f}"
    task.update(last["step"], last["steps"], note)


def _version_tags(made: Mapping[str, Artifact]) -> dict[str, str]:
    """What a registered version tells of its origin."""
    roots = {f"merkle_root.{name}": artifact.manifest["merkle_root"] for name, artifact in made.items()}
    fingerprints = {f"fingerprint.{name}": artifact.fingerprint for name, artifact in made.items()}
    return {"git_commit": git_commit() or "unknown"} | fingerprints | roots


def _worth_logging(artifact: Artifact) -> list[Path]:
    """The files that a person opens in the tracking UI: records, reports and figures, never data."""
    small = (".json", ".jsonl", ".html", ".svg", ".png", ".md")
    return sorted(p for p in artifact.path.iterdir() if p.suffix in small and p.stat().st_size < 8 * 2**20)


def _cached(artifact: Artifact) -> Outcome:
    return Outcome(name=artifact.manifest["stage"], status="cached", seconds=0.0, artifact=artifact)


def _line(outcome: Outcome) -> str:
    time_taken = f" in {duration(outcome.seconds)}" if outcome.status == "ran" else ""
    return f"{outcome.name}: {outcome.status}{time_taken}; {headline(outcome.name, outcome.artifact.metrics)}"


def headline(stage: str, metrics: Mapping[str, Any]) -> str:
    """What a stage brought out, in one phrase."""
    m = metrics
    match stage:
        case "clean":
            kept = m["documents_train"] + m["documents_valid"] + m["documents_test"]
            return f"{kept:,} of {m['documents_in']:,} documents kept"
        case "vocab":
            return f"{m['size']:,} tokens cover {m['coverage_test']:.2%} of the test split"
        case "shard":
            return ", ".join(f"{m[f'tokens_{split}']:,} {split}" for split in SPLITS) + " tokens"
        case "train":
            size = f"{m['parameters'] / 1e6:.1f} M parameters"
            return f"{size}, {m['steps']:,} steps, valid perplexity {m['valid_perplexity']:.1f}"
        case "evaluate":
            return f"test perplexity {m['perplexity']:.1f}"
        case _:
            return f"{m['name']} version {m['version']}{', the new champion' if m['promoted'] else ''}"


def _public(config: Config) -> Json:
    """The resolved config without secrets, for the manifest."""
    tree = dataclasses.asdict(config)
    if config.runtime.tracking_uri:
        tree["runtime"]["tracking_uri"] = public_uri(config.runtime.tracking_uri)
    return tree


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as `section.key`."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
