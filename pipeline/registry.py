"""MLflow's model registry: put models in, find them again.

A version is what MLflow calls a logged model: a folder with the models-from-code file `pyfunc.py`, a copy of
`components` and, below `artifacts`, the model folder that everything else here works with.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import yaml

from components.errors import UserError
from pipeline.address import public_uri
from pipeline.connection import connect
from pipeline.stage import FilesGone

CHAMPION, CANDIDATE = "champion", "candidate"
FINGERPRINT, WEIGHTS = "fingerprint", "weights_sha256"
REQUIREMENTS = ("mlflow", "numpy", "pandas", "safetensors", "tokenizers", "torch")
"""What serving a model imports, pyfunc.py and components together."""
MODEL_FILES = ("config.json", "weights.safetensors", "tokenizer.json")
FIX = "`pipeline run --stage register --force`"


class MlflowRegistry:
    """The registry as the stage `register` sees it; `run_id` is the run that new versions belong to.

    `tags` go on every new version: git commit, the fingerprints of the stages.
    """

    def __init__(self, uri: str, *, run_id: str, tags: Mapping[str, str] | None = None):
        self.uri = uri
        self.run_id = run_id
        self.tags = dict(tags or {})

    @cached_property
    def client(self) -> Any:
        """Opened at the first use: most stages have none for it."""
        return connect(self.uri)

    def champion(self, name: str) -> Path | None:
        """The model folder behind the alias `champion`, None where there is none. Raises FilesGone."""
        aliases = _aliases(self.client, name) or {}
        return _model_folder(self.client, self.uri, name, aliases[CHAMPION]) if CHAMPION in aliases else None

    def register(self, name: str, model: Path, *, metrics: Mapping[str, Any], tags: Mapping[str, str]) -> int:
        """Store the model folder as a new version with the alias `candidate` and return its number.

        `tags` holds at least `fingerprint`. A version that has this fingerprint and these weights already,
        left by a process that was killed afterwards, is taken instead of a second one if its files are there.
        """
        weights = json.loads((model / "config.json").read_text(encoding="utf-8"))[WEIGHTS]
        number = self._registered(name, {FINGERPRINT: tags[FINGERPRINT], WEIGHTS: weights})
        if number is None:
            figures = {f"metric.{key}": str(value) for key, value in metrics.items() if value is not None}
            number = self._create(name, model, {**self.tags, **tags, **figures, WEIGHTS: weights})
        self.client.set_registered_model_alias(name, CANDIDATE, str(number))
        return number

    def promote(self, name: str, version: int) -> None:
        """Move the alias `champion` to this version."""
        self.client.set_registered_model_alias(name, CHAMPION, str(version))

    def _registered(self, name: str, tags: Mapping[str, str]) -> int | None:
        wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        found = self.client.search_model_versions(f"{_named(name)} and {wanted}")
        for number in sorted((int(v.version) for v in found), reverse=True):
            with suppress(FilesGone):
                _model_folder(self.client, self.uri, name, number)
                return number
        return None

    def _create(self, name: str, model: Path, tags: Mapping[str, str]) -> int:
        from mlflow.entities import LoggedModelOutput
        from mlflow.exceptions import MlflowException

        experiment = self.client.get_run(self.run_id).info.experiment_id
        logged = self.client.create_logged_model(experiment, name="model", source_run_id=self.run_id, tags=dict(tags))
        with tempfile.TemporaryDirectory(prefix="lm-pipeline-") as folder:
            save_pyfunc(Path(folder, "model"), model, run_id=self.run_id, model_id=logged.model_id)
            self.client.log_model_artifacts(logged.model_id, str(Path(folder, "model")))
        self.client.finalize_logged_model(logged.model_id, "READY")
        self.client.log_outputs(self.run_id, [LoggedModelOutput(logged.model_id, step=0)])
        try:
            self.client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        # A server takes this address only with the id; SQLite would look for `models:/m-...` in another database.
        created = self.client.create_model_version(
            name, logged.artifact_location, self.run_id, dict(tags), model_id=logged.model_id
        )
        return int(created.version)


def save_pyfunc(folder: Path, model: Path, *, run_id: str | None = None, model_id: str | None = None) -> None:
    """Write MLflow's form of a model folder: pyfunc.py, components, signature, example and requirements."""
    import mlflow.pyfunc
    import pandas as pd  # type: ignore[import-untyped]
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    import components

    signature = ModelSignature(
        inputs=Schema([ColSpec(DataType.string, "prompt")]),
        params=ParamSchema(
            [
                ParamSpec("task", DataType.string, "generate"),
                ParamSpec("max_new_tokens", DataType.long, 40),
                ParamSpec("temperature", DataType.double, 0.8),
                ParamSpec("top_k", DataType.long, 0),
                ParamSpec("seed", DataType.long, 0),
            ]
        ),
    )
    with tempfile.TemporaryDirectory(prefix="lm-pipeline-") as staging:
        code = Path(staging, "components")
        shutil.copytree(
            Path(components.__file__).parent, code, ignore=shutil.ignore_patterns("__pycache__", "*.md", ".*")
        )
        mlflow.pyfunc.save_model(
            str(folder),
            python_model=str(Path(__file__).with_name("pyfunc.py")),
            artifacts={"model": str(model)},
            code_paths=[str(code)],
            signature=signature,
            input_example=(pd.DataFrame({"prompt": ["The "]}), {"max_new_tokens": 8}),
            pip_requirements=_requirements(),
            mlflow_model=Model(run_id=run_id, model_id=model_id, model_uuid=model_id),
        )


def _requirements() -> list[str]:
    """Pins of what is installed, without a build's local label (`2.13.0+cpu`): no package index knows it."""
    pins = []
    for package in REQUIREMENTS:
        try:
            pins.append(f"{package}=={version(package).partition('+')[0]}")
        except PackageNotFoundError:
            raise UserError(f"the package {package} is not installed; run pip install {package}") from None
    return pins


def resolve(uri: str, tracking_uri: str) -> Path:
    """The model folder behind `models:/name@alias`, `models:/name/3` or `models:/name` (its champion).

    A folder on this machine is returned as it is (never write there); from a server it is downloaded once to
    `~/.cache/lm-pipeline`. Raises UserError naming what there is instead.
    """
    match = re.fullmatch(r"models:/([^/@]+)(?:@([^/@]+)|/(\d+))?", uri)
    if not match:
        raise UserError(f"{uri} is not a model; write models:/name@alias, models:/name/3 or models:/name")
    name, alias, number = match[1], match[2], match[3]
    client = _existing(tracking_uri)
    aliases = _aliases(client, name) if client else None
    if client is None or aliases is None:
        names = ", ".join(m.name for m in client.search_registered_models()) if client else ""
        raise UserError(
            f"no model is named {name} in {public_uri(tracking_uri)}; "
            + (f"there are: {names}; {FIX} adds yours" if names else f"there is none yet, {FIX} makes one")
        )
    numbers = sorted(int(v.version) for v in _versions(client, name))
    if number is None:
        alias = alias or CHAMPION
        if alias not in aliases:
            known = ", ".join(f"@{a}" for a in sorted(aliases)) or "none"
            raise UserError(
                f"model {name} has no alias {alias}; aliases: {known}; versions: {_listed(numbers)}; {FIX} adds one"
            )
        number = str(aliases[alias])
    if int(number) not in numbers:
        raise UserError(f"model {name} has no version {number}; versions: {_listed(numbers)}; {FIX} adds one")
    return _model_folder(client, tracking_uri, name, int(number))


def list_models(tracking_uri: str) -> list[dict[str, Any]]:
    """The registered models: name, aliases ({alias: version}), versions (number, perplexity, run, tags)."""
    client = _existing(tracking_uri)
    if client is None:
        return []
    return [
        {
            "name": model.name,
            "aliases": _aliases(client, model.name) or {},
            "versions": [
                {
                    "version": int(v.version),
                    "perplexity": float(v.tags["metric.perplexity"]) if "metric.perplexity" in v.tags else None,
                    "run_id": v.run_id,
                    "tags": dict(v.tags),
                }
                for v in sorted(_versions(client, model.name), key=lambda v: int(v.version))
            ],
        }
        for model in client.search_registered_models()
    ]


def version_exists(name: str, number: int, tracking_uri: str) -> bool:
    """Whether the registry holds this version."""
    client = _existing(tracking_uri)
    return client is not None and any(int(v.version) == number for v in _versions(client, name))


def _existing(tracking_uri: str) -> Any | None:
    """A client; None for an SQLite file that is not there: asking must not create it."""
    if tracking_uri.startswith("sqlite:///") and not Path(tracking_uri.removeprefix("sqlite:///")).is_file():
        return None
    return connect(tracking_uri)


def _versions(client: Any, name: str) -> list[Any]:
    return list(client.search_model_versions(_named(name)))


def _aliases(client: Any, name: str) -> dict[str, int] | None:
    """Alias to version; None where no model has this name. (A search for versions never tells aliases.)"""
    from mlflow.exceptions import MlflowException

    try:
        aliases = client.get_registered_model(name).aliases
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    return {alias: int(number) for alias, number in aliases.items()}


def _model_folder(client: Any, tracking_uri: str, name: str, number: int) -> Path:
    source = client.get_model_version_download_uri(name, str(number))
    is_local = urlsplit(source).scheme in ("", "file")
    folder = Path(url2pathname(urlsplit(source).path)) if is_local else _downloaded(source, tracking_uri)
    try:
        flavors = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))["flavors"]
        model = folder / str(flavors["python_function"]["artifacts"]["model"]["path"])
    except (FileNotFoundError, NotADirectoryError):
        model = None
    except OSError as error:
        raise UserError(f"models:/{name}/{number} cannot be read from {folder}: {error.strerror}") from None
    except (yaml.YAMLError, KeyError, TypeError):
        raise UserError(f"models:/{name}/{number} was not registered by this pipeline; name another") from None
    if model is None or not all((model / file).is_file() for file in MODEL_FILES):
        place = folder if is_local else source
        raise FilesGone(f"the files of models:/{name}/{number} are gone from {place}; {FIX} makes a new version")
    return model


def _downloaded(source: str, tracking_uri: str) -> Path:
    """The content of an artifact address in the user's cache; a logged model never changes."""
    from mlflow.artifacts import download_artifacts, list_artifacts
    from mlflow.exceptions import MlflowException

    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lm-pipeline" / "models"
    folder = cache / hashlib.sha256(f"{public_uri(tracking_uri)} {source}".encode()).hexdigest()[:32]
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=cache) as staging:
        try:
            if not list_artifacts(artifact_uri=source, tracking_uri=tracking_uri):
                return folder  # not there, like the files
            got = Path(download_artifacts(source, dst_path=staging, tracking_uri=tracking_uri))
            got.rename(folder)
        except MlflowException as error:
            reason = str(error).replace(tracking_uri, public_uri(tracking_uri)).partition("\n")[0]
            raise UserError(f"{source} cannot be downloaded from {public_uri(tracking_uri)}: {reason}") from None
        except OSError:
            if not folder.is_dir():  # else another process was faster
                raise
    return folder


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers)) or "none"


def _named(name: str) -> str:
    """A filter for one model; MLflow knows no escape, but two kinds of quotes."""
    quote = "'" if '"' in name else '"'
    return f"name = {quote}{name}{quote}"
