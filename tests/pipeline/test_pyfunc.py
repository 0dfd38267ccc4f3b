import json
import os
import pickletools
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.generate.language_model import LanguageModel
from pipeline.config import Config, store_path
from pipeline.connection import ENVIRONMENT
from pipeline.registry import MlflowRegistry, resolve
from pipeline.tracking import open_tracker
from tests.pipeline.models import make_model

URI = "models:/demo@candidate"
PROMPTS = ["the cat", "the dog ran"]


@pytest.fixture
def registered(config: Config, tmp_path: Path) -> MlflowRegistry:
    tracker = open_tracker(config, store_path(config))
    tracker.start({}, {})
    registry = MlflowRegistry(tracker.uri, run_id=tracker.stage("register").run_id)
    model = make_model(tmp_path / "model", counts=[0, 2, 5, 3, 2, 1, 1])
    registry.register("demo", model, metrics={}, tags={"fingerprint": "f"})
    return registry


def elsewhere(tmp_path: Path, registry: MlflowRegistry) -> dict[str, Any]:
    """How to start a process in which this project cannot be imported."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MLFLOW"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # `serve` looks for uvicorn there
    env = {**kept, **ENVIRONMENT, "PATH": path, "MLFLOW_TRACKING_URI": registry.uri, "PYTHONPATH": ""}
    return {"cwd": folder, "env": env}


def test_no_pickle_in_a_registered_model(registered: MlflowRegistry) -> None:
    folder = resolve(URI, registered.uri).parents[1]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {"MLmodel", "pyfunc.py", "config.json", "weights.safetensors", "tokenizer.json"} <= {f.name for f in files}
    for path in files:
        assert path.suffix in {"", ".py", ".json", ".yaml", ".txt", ".safetensors", ".jinja"}, path
        assert not zipfile.is_zipfile(path), path
        with pytest.raises(Exception):  # noqa: B017 (each way not to be a pickle has an error of its own)
            list(pickletools.genops(path.read_bytes()))
    flavor = yaml.safe_load((folder / "MLmodel").read_text())["flavors"]["python_function"]
    assert flavor["loader_module"] == "mlflow.pyfunc.loaders.code_model"
    assert "python_model" not in flavor


def test_its_papers(registered: MlflowRegistry) -> None:
    from mlflow.models import Model

    folder = resolve(URI, registered.uri).parents[1]
    model = Model.load(str(folder))
    assert [column.name for column in model.signature.inputs] == ["prompt"]
    assert {p.name: p.default for p in model.signature.params} == {
        "task": "generate",
        "max_new_tokens": 40,
        "temperature": 0.8,
        "top_k": 0,
        "seed": 0,
    }
    requirements = (folder / "requirements.txt").read_text().splitlines()
    assert {line.split("==")[0] for line in requirements} >= {"mlflow", "torch", "safetensors", "tokenizers"}
    assert all("==" in line and "+" not in line for line in requirements)


LOAD = """
import json, sys
import mlflow, pandas
try:
    import pipeline
    sys.exit("the project must not be importable here")
except ImportError:
    pass
model = mlflow.pyfunc.load_model(sys.argv[1])
prompts = json.loads(sys.argv[2])
made = model.predict({"prompt": prompts}, params={"max_new_tokens": 6, "seed": 3, "temperature": 1.0, "top_k": 4})
default = model.predict(pandas.DataFrame({"prompt": prompts}))
scores = model.predict(pandas.DataFrame({"prompt": prompts}), params={"task": "score"})
json.dump({
    "made": made["continuation"].tolist(), "default": default["continuation"].tolist(),
    "scores": scores.to_dict("list"),
}, sys.stdout)
"""


def test_it_loads_where_this_project_is_not_installed(registered: MlflowRegistry, tmp_path: Path) -> None:
    # -S leaves out the .pth files, and with them an editable installation of this project.
    code = f"import sys; sys.path += {[p for p in sys.path if p.endswith('site-packages')]}\n{LOAD}"
    got = subprocess.run(
        [sys.executable, "-S", "-c", code, URI, json.dumps(PROMPTS)],
        **elsewhere(tmp_path, registered),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert got.returncode == 0, got.stderr
    answer = json.loads(got.stdout)
    model = LanguageModel.load(tmp_path / "model")
    assert answer["made"] == model.generate(PROMPTS, 6, temperature=1.0, top_k=4, seed=3)
    assert answer["default"] == model.generate(PROMPTS, 40, temperature=0.8, seed=0)
    scores = model.score(PROMPTS)
    assert answer["scores"]["log_probability"] == pytest.approx([s.log_probability for s in scores], abs=1e-6)
    assert answer["scores"]["perplexity"] == pytest.approx([s.perplexity for s in scores], abs=1e-6)
    assert answer["scores"]["tokens"] == [s.tokens for s in scores]


def test_it_is_served(registered: MlflowRegistry, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", URI, "--env-manager", "local"]
    command += ["--host", "127.0.0.1", "--port", address.rpartition(":")[2]]
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, **elsewhere(tmp_path, registered), stdout=output, stderr=output, start_new_session=True
        )

    def ask(**body: Any) -> Any:
        """The predictions for this request."""
        content = json.dumps(body).encode()
        request = urllib.request.Request(f"{address}/invocations", content, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)["predictions"]

    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{address}/health", timeout=1).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
        model = LanguageModel.load(tmp_path / "model")
        records = [{"prompt": prompt} for prompt in PROMPTS]
        made = ask(dataframe_records=records, params={"max_new_tokens": 5, "temperature": 1.0})
        assert [row["continuation"] for row in made] == model.generate(PROMPTS, 5, temperature=1.0, seed=0)
        scored = ask(inputs={"prompt": PROMPTS}, params={"task": "score"})
        expected = [score.perplexity for score in model.score(PROMPTS)]
        assert [row["perplexity"] for row in scored] == pytest.approx(expected, abs=1e-6)
        example = resolve(URI, registered.uri).parents[1] / "serving_input_example.json"
        assert len(ask(**json.loads(example.read_text()))) == 1
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(dataframe_records=records, params={"task": "sing"})
        assert refused.value.code == 400
        assert b"generate or score" in refused.value.read()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
