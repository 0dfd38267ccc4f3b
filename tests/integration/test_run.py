"""What a user of `pipeline run` is promised, on one small finished run."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.runs import Finished, Shell, environment, settings, write_corpus

ROOT = Path(__file__).parents[2]
STAGES = ["clean", "vocab", "shard", "train", "evaluate", "register"]


def shortest(call: Callable[[], object], tries: int = 3) -> float:
    """The shortest of a few times, in seconds: what the machine's other work adds is not ours."""
    times = []
    for _ in range(tries):
        started = time.monotonic()
        call()
        times.append(time.monotonic() - started)
    return min(times)


def test_the_result_tells_stages_metrics_and_model(finished: Finished) -> None:
    result = finished.result
    assert [s["name"] for s in result["stages"]] == STAGES
    assert {s["status"] for s in result["stages"]} == {"ran"}
    assert all((Path(s["path"]) / "manifest.json").is_file() for s in result["stages"])
    assert all(s["resumed_from_step"] is None for s in result["stages"])
    assert result["model"] == {"name": "tales", "version": 1, "uri": "models:/tales/1"}
    metrics = result["metrics"]
    assert 1 < metrics["perplexity"] < metrics["unigram_perplexity"]
    assert metrics["bits_per_byte"] is None, "a word vocabulary with <unk> is not lossless"
    assert 0 <= metrics["bleu"] <= 100
    assert len(result["mlflow_run_id"]) == 32


def test_it_writes_nothing_outside_its_store(finished: Finished) -> None:
    """No token in the home folder, no mlruns or mlflow.db in the current one."""
    assert {p.name for p in finished.shell.folder.iterdir()} <= {"tales", "runs", ".cache", ".config"}
    names = {p.name for p in finished.store.iterdir()}
    assert names == {*STAGES, ".tmp", "mlflow.db", "mlflow.db.lock", "mlartifacts"}
    assert list((finished.store / ".tmp").iterdir()) == []


def test_the_log_is_plain_lines(finished: Finished) -> None:
    assert "\x1b" not in finished.stderr
    for stage in STAGES:
        assert f"{stage}: ran in " in finished.stderr
    assert "Traceback" not in finished.stderr


def test_a_rerun_does_nothing_in_under_two_seconds(finished: Finished) -> None:
    result = finished.shell.json("run", *finished.arguments)
    seconds = shortest(lambda: finished.shell.json("run", *finished.arguments))
    assert {s["status"] for s in result["stages"]} == {"cached"}
    for key in ("metrics", "model", "mlflow_run_id"):
        assert result[key] == finished.result[key]
    assert seconds < 2


def test_a_rerun_imports_no_engine(finished: Finished) -> None:
    code = (
        "import sys; sys.argv[0] = 'pipeline'\n"
        "from pipeline.cli import commands\n"
        "commands.main(standalone_mode=False)\n"
        "print(sorted({'ray', 'torch', 'mlflow'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "run", *finished.arguments],
        cwd=finished.shell.folder,
        env=environment(finished.shell.folder),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"


def plan(finished: Finished, *changes: str) -> dict[str, tuple[str, str]]:
    stages = finished.shell.json("plan", *finished.arguments, *settings(changes))["stages"]
    return {s["name"]: (s["status"], s["why"]) for s in stages}


def test_plan_names_the_setting_that_changed(finished: Finished) -> None:
    stages = plan(finished, "train.learning_rate=0.02")
    assert [name for name, (status, _) in stages.items() if status == "run"] == ["train", "evaluate", "register"]
    assert stages["train"][1] == "train.learning_rate 0.01 -> 0.02"
    assert stages["evaluate"][1] == "train changed"


def test_nothing_under_runtime_reruns_anything(finished: Finished) -> None:
    changes = {"workers": 2, "task_workers": 1, "checkpoint_minutes": 1, "keep_checkpoints": 9}
    stages = plan(finished, *(f"runtime.{name}={value}" for name, value in changes.items()))
    assert {status for status, _ in stages.values()} == {"cached"}


def test_another_registry_reruns_register_alone(finished: Finished) -> None:
    stages = plan(finished, f"runtime.tracking_uri=sqlite:///{finished.store}/other.db")
    assert [name for name, (status, _) in stages.items() if status == "run"] == ["register"]
    assert "registry" in stages["register"][1]


def test_plan_names_the_input_that_changed(finished: Finished, tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shutil.copytree(finished.shell.folder / "tales", tmp_path / "tales")
    with (tmp_path / "tales" / "part1.txt").open("a") as file:
        file.write("\nAnd one more sentence.\n")
    (tmp_path / "tales" / "new.txt").write_text("A new file.\n")
    stages = shell.json("plan", *finished.arguments, "--store", str(finished.store))["stages"]
    assert "new.txt was added" in stages[0]["why"]
    assert "part1.txt changed" in stages[0]["why"]


def test_the_place_of_the_corpus_does_not_matter(finished: Finished, tmp_path: Path) -> None:
    shutil.copytree(finished.shell.folder / "tales", tmp_path / "elsewhere" / "tales")
    shell = Shell(tmp_path)
    arguments = ["--input", "elsewhere/tales", *finished.arguments[2:], "--store", str(finished.store)]
    assert {s["status"] for s in shell.json("plan", *arguments)["stages"]} == {"cached"}


def test_verify_and_status_describe_the_store(finished: Finished) -> None:
    verified = finished.shell.json("verify")
    assert verified["ok"]
    assert [row["stage"] for row in verified["artifacts"]] == STAGES
    status = finished.shell.json("status")
    assert [row["stage"] for row in status["artifacts"]] == STAGES
    (model,) = status["models"]
    assert model["aliases"] == {"candidate": 1, "champion": 1}
    text = finished.shell.run("status").stdout
    assert "tales" in text
    assert "champion" in text


def test_generate_and_score_take_every_kind_of_model(finished: Finished) -> None:
    folder = finished.path("train")
    texts = set()
    for uri in ("models:/tales@champion", "models:/tales/1", "models:/tales", str(folder / "model"), folder.name[:10]):
        made = finished.shell.json("generate", "--model", uri, "--prompt", "The cat", "--max-tokens", "8")
        texts.add(made["continuations"][0]["text"])
    assert len(texts) == 1
    file = finished.shell.folder / "tales" / "part0.txt"
    lines = finished.shell.json("score", "--model", "models:/tales@champion", str(file))["lines"]
    assert len(lines) == sum(1 for line in file.read_text().splitlines() if line)
    assert all(line["log_probability"] < 0 and line["perplexity"] > 1 for line in lines)


def test_score_is_line_by_line(finished: Finished, tmp_path: Path) -> None:
    file = tmp_path / "lines.txt"
    file.write_bytes("\ufeffThe cat\r\n\nThe\u2028dog\x0b.\n".encode())
    lines = finished.shell.json("score", "--model", "models:/tales", str(file))["lines"]
    assert [(line["line"], line["text"]) for line in lines] == [(1, "The cat"), (3, "The\u2028dog\x0b.")]


def test_the_tracking_server_tells_the_whole_story(finished: Finished) -> None:
    from pipeline.tracking import connect

    client = connect(f"sqlite:///{finished.store}/mlflow.db")
    parent = client.get_run(finished.result["mlflow_run_id"])
    assert parent.info.status == "FINISHED"
    assert parent.data.params["train.epochs"] == "2"
    assert parent.data.metrics["perplexity"] == pytest.approx(finished.result["metrics"]["perplexity"])
    children = client.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'", order_by=["start_time"]
    )
    assert [c.info.run_name for c in children] == STAGES
    assert {c.info.status for c in children} == {"FINISHED"}
    train = children[3]
    assert len(client.get_metric_history(train.info.run_id, "loss")) > 10
    inputs = {i.dataset.name: i.dataset.digest for i in train.inputs.dataset_inputs}
    root = json.loads((finished.path("shard") / "manifest.json").read_text())["merkle_root"]
    assert inputs["shard"] == root[:36]
    names = {f.path for f in client.list_artifacts(children[4].info.run_id)}
    assert {"evaluation.json", "report.html", "samples.jsonl"} <= names


def test_help_is_instant(shell: Shell) -> None:
    assert shortest(lambda: shell.run("--help")) < 0.5


@pytest.mark.parametrize("command", ["run", "plan", "status", "generate", "score", "verify", "prune", "init"])
def test_every_command_has_help_with_an_example(shell: Shell, command: str) -> None:
    assert "Example: " in shell.run(command, "--help").stdout


def test_status_of_an_empty_store_creates_nothing(shell: Shell) -> None:
    assert "is empty" in shell.run("status").stdout
    assert list(shell.folder.iterdir()) == []


def test_init_writes_a_config_that_runs(shell: Shell) -> None:
    write_corpus(shell.folder / "tales", files=1, documents=20)
    shell.run("init", "--input", "tales", "mine.yaml")
    assert [s["status"] for s in shell.json("plan", "--config", "mine.yaml")["stages"]] == ["run"] * 6
    assert "mine.yaml exists" in shell.run("init", "mine.yaml", expect=2).stderr


BAD_INPUT: list[tuple[list[str], str]] = [
    (["run", "--input", "nowhere.txt"], "nowhere.txt"),
    (["run", "--input", "empty"], "empty"),
    (["run", "--config", "brown.yaml"], "brown.yaml does not exist"),
    (["run", "--set", "train.learning_rat=1"], "did you mean train.learning_rate"),
    (["run", "--set", "train.epochs=x"], "train.epochs"),
    (["run", "--set", "runtime.workers=3"], "train.batch_size"),
    (["run", "--set", "corpus.train=[a.txt]"], "corpus"),
    (["run", "--stage", "trian"], "train"),
    (["generate", "--model", "models:/none@champion"], "none"),
    (["generate", "--model", "nothing"], "nothing is no model"),
    (["score", "--model", "models:/x/y/z", "-"], "models:/x/y/z"),
    (["run", "--set", "runtime.tracking_uri=http://127.0.0.1:9"], "127.0.0.1:9"),
    (["run", "--set", "runtime.tracking_uri=./mlruns"], "runtime.tracking_uri"),
    (["run", "--store", "/proc/nowhere"], "/proc/nowhere"),
    (["run", "--address", "127.0.0.1:9"], "nothing listens at 127.0.0.1:9"),
    (["run", "--address", "nonsense"], "nonsense is no address of a Ray cluster"),
    (["run", "--set", "train.learning_rate=.nan"], "train.learning_rate"),
    (["run", "--store", "~nobody-of-that-name/runs"], "there is no such user"),
    (["verify", "--store", "nowhere"], "nowhere"),
    (["init", "empty", "--force"], "empty cannot be written"),
]


@pytest.mark.parametrize(("arguments", "told"), BAD_INPUT, ids=lambda v: " ".join(v) if isinstance(v, list) else None)
def test_a_mistake_is_one_sentence_and_exit_2(shell: Shell, arguments: list[str], told: str) -> None:
    (shell.folder / "empty").mkdir()
    done = shell.run(*arguments, expect=2)
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not list(shell.folder.glob("runs/*/*"))


def test_a_config_error_is_told_in_under_two_seconds(shell: Shell) -> None:
    assert shortest(lambda: shell.run("run", "--set", "train.epochs=x", expect=2)) < 2


def test_a_damaged_manifest_or_file_is_told_or_mended(finished: Finished, tmp_path: Path) -> None:
    shutil.copytree(finished.store, tmp_path / "runs")
    shutil.copytree(finished.shell.folder / "tales", tmp_path / "tales")
    shell = Shell(tmp_path)
    shard = tmp_path / "runs" / finished.path("shard").relative_to(finished.store)
    file = next(shard.glob("tokens/train/*.parquet"))
    file.write_bytes(file.read_bytes()[:-1])
    stages = {s["name"]: s for s in shell.json("plan", *finished.arguments)["stages"]}
    assert stages["shard"]["status"] == "run"
    assert file.name in stages["shard"]["why"]
    assert not shell.json("verify", expect=1)["ok"]
    (shard / "manifest.json").write_text("{")
    done = shell.run("run", *finished.arguments, expect=2)
    assert str(shard / "manifest.json") in done.stderr
    assert "pipeline run --stage shard --force" in done.stderr


def test_prune_keeps_what_a_registered_version_needs(finished: Finished, tmp_path: Path) -> None:
    shutil.copytree(finished.store, tmp_path / "runs")
    assert Shell(tmp_path).json("prune", "--keep", "0", "--yes")["removed"] == []
    registration = next((tmp_path / "runs" / "register").glob("*/registration.json"))
    content: dict[str, Any] = json.loads(registration.read_text())
    registration.write_text(json.dumps(content | {"version": 99}))
    removed = Shell(tmp_path).json("prune", "--keep", "0", "--yes")["removed"]
    assert [row["stage"] for row in removed] == STAGES
    assert not list((tmp_path / "runs").glob("*/*/manifest.json"))


def test_the_report_is_one_file_without_requests(finished: Finished) -> None:
    report = (finished.path("evaluate") / "report.html").read_text()
    assert "<svg" in report
    assert "<script" not in report
    assert 'src="http' not in report
    assert 'href="http' not in report


def test_the_documented_job_trains_without_ray(finished: Finished, tmp_path: Path) -> None:
    text = (ROOT / "components" / "train" / "README.md").read_text(encoding="utf-8")
    job = text.split("```json\n")[1].split("```")[0]
    for stage in ("shard", "vocab"):
        job = job.replace(f"runs/{stage}/<fingerprint>", str(finished.path(stage)))
    (tmp_path / "job.json").write_text(job)
    subprocess.run(
        [sys.executable, "-m", "components.train", "job.json"], cwd=tmp_path, env=environment(tmp_path), check=True
    )
    made = finished.shell.json("generate", "--model", str(tmp_path / "by-hand"), "--prompt", "The", "--max-tokens", "4")
    assert made["continuations"][0]["text"]
