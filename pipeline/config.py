"""The config tree: defaults < file < `--set a.b=c`, validated as a whole before anything runs.

Each leaf is a frozen dataclass beside the code it configures; this file composes them. Relative paths are taken from
the current directory, and what is stored with a run is the resolved tree.
"""

import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from pydantic import TypeAdapter, ValidationError

from components.clean.config import CleanConfig, CorpusConfig
from components.errors import UserError
from components.evaluate.config import EvaluateConfig
from components.model.config import ModelConfig
from components.shard.config import ShardConfig
from components.train.config import TrainConfig
from components.vocab.config import VocabConfig


@dataclass(frozen=True, kw_only=True)
class RegisterConfig:
    """Under which name users find the model."""

    name: str = "model"
    """The registered model's name."""

    def __post_init__(self) -> None:
        """Refuse names that no registry URI can hold."""
        if not re.fullmatch(r"[\w.-]+", self.name):
            raise ValueError("name must be made of letters, digits, - _ and .")


@dataclass(frozen=True, kw_only=True)
class RuntimeConfig:
    """Where and how fast, never what: nothing here changes a result or enters a fingerprint."""

    store: str = "runs"
    """Folder of all artifacts; on a cluster a folder that every node sees."""
    tracking_uri: str | None = None
    """MLflow tracking and registry; null is the SQLite file `<store>/mlflow.db`."""
    address: str | None = None
    """Ray cluster to join (also from RAY_ADDRESS); null starts Ray on this machine for the run."""
    task_workers: int | None = None
    """Data tasks at once; null uses every core there is."""
    workers: int = 1
    """Workers of the training group."""
    use_gpu: bool = False
    """Give each training worker a GPU."""
    checkpoint_minutes: float = 5.0
    """Time between training checkpoints; one is also written after every epoch."""
    keep_checkpoints: int = 2
    """Newest checkpoints kept while a training runs."""

    def __post_init__(self) -> None:
        """Refuse counts below one."""
        for name in ("workers", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.task_workers is not None and self.task_workers < 1:
            raise ValueError("task_workers must be at least 1, or null for every core")
        if not (math.isfinite(self.checkpoint_minutes) and self.checkpoint_minutes >= 0):
            raise ValueError("checkpoint_minutes must be a number and not negative")
        scheme = urlsplit(self.store).scheme
        if scheme and "://" in self.store:
            raise ValueError("store must be a local or mounted folder, not a URI")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides a run."""

    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    clean: CleanConfig = field(default_factory=CleanConfig)
    vocab: VocabConfig = field(default_factory=VocabConfig)
    shard: ShardConfig = field(default_factory=ShardConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    register: RegisterConfig = field(default_factory=RegisterConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


def load_config(
    file: Path | None = None,
    overrides: Iterable[str] = (),
    *,
    inputs: Sequence[str] = (),
    store: str | None = None,
    address: str | None = None,
) -> Config:
    """Compose the config from a YAML file, `section.key=value` overrides and the options of the command line.

    Without a file and without a word about the corpus it is the demo: the embedded corpus, registered as `demo`.
    Raises UserError naming the file or key and the fix.
    """
    origin = f"{file}: " if file else ""
    tree = _read(file) if file else {}
    _refuse_unknown(tree, Config, (), origin)
    for override in overrides:
        _apply(tree, override)
    _refuse_unknown(tree, Config, (), "")
    tree = {name: section or {} for name, section in tree.items()}
    for section in ("corpus", "register", "runtime"):
        tree.setdefault(section, {})
    if inputs:
        tree["corpus"] = {k: v for k, v in tree["corpus"].items() if k != "source"} | {"paths": list(inputs)}
        tree["register"] = {"name": _name_of(inputs[0])} | tree["register"]
    elif file is None and not tree["corpus"].keys() & {"source", "paths", "train", "valid", "test"}:
        tree["corpus"] = {"source": "python-docs"} | tree["corpus"]
        tree["register"] = {"name": "demo"} | tree["register"]
    tree["runtime"] |= {k: v for k, v in (("store", store), ("address", address)) if v is not None}
    for key in ("paths", "train", "valid", "test"):
        if isinstance(tree["corpus"].get(key), str):
            tree["corpus"][key] = [tree["corpus"][key]]
    try:
        return _VALIDATOR.validate_python(tree)
    except ValidationError as error:
        raise UserError(origin + "; ".join(_sentence(e) for e in error.errors())) from None


def store_path(config: Config) -> Path:
    """The store's folder, absolute."""
    try:
        return Path(config.runtime.store).expanduser().absolute()
    except RuntimeError:
        raise UserError(f"runtime.store {config.runtime.store}: there is no such user; write the folder out") from None


def identity(section: object) -> dict[str, Any]:
    """The fields of a section that decide a result, as they enter a fingerprint."""
    assert is_dataclass(section)
    return {f.name: getattr(section, f.name) for f in fields(section) if f.metadata.get("identity", True)}


def _read(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"config file {file} does not exist; write one with `pipeline init`") from None
    except OSError as error:
        raise UserError(f"config file {file} cannot be read ({error.strerror}); name a YAML file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"config file {file} is not UTF-8 (byte {error.start}); convert it first") from None
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, " if mark else ""
        raise UserError(f"{file}: {where}not valid YAML: {getattr(error, 'problem', None) or error}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise UserError(f"{file}: the top level must be sections like `train:`, not {type(tree).__name__}")
    return tree


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    names = key.strip().split(".")
    if not equals or not all(names):
        raise UserError(f"--set {override}: write it as section.key=value, e.g. --set train.epochs=2")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        raise UserError(f"--set {override}: the value is not valid YAML; quote it") from None
    node = tree
    for name in names[:-1]:
        child = node.setdefault(name, {})
        if child is None:
            child = node[name] = {}
        if not isinstance(child, dict):
            raise UserError(f"--set {override}: {name} is a value, not a section")
        node = child
    node[names[-1]] = parsed


def _refuse_unknown(tree: Mapping[Any, Any], cls: type, path: tuple[str, ...], origin: str) -> None:
    known = {f.name: f for f in fields(cls)}
    for key, value in tree.items():
        where = ".".join((*path, str(key)))
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5) or _section_of(str(key), path)
            hint = f"; did you mean {'.'.join((*path, near[0]))}?" if near else f"; known: {', '.join(known)}"
            raise UserError(f"{origin}unknown config key {where}{hint}")
        leaf = known[key].type
        if isinstance(value, bool) and leaf is not bool:
            raise UserError(f"{origin}{where} is {str(value).lower()} but is no switch")
        if isinstance(leaf, type) and is_dataclass(leaf):
            if value is not None and not isinstance(value, Mapping):
                raise UserError(f"{origin}{where} is a section: give it keys like {where}.{fields(leaf)[0].name}")
            _refuse_unknown(value or {}, leaf, (*path, str(key)), origin)


def _section_of(key: str, path: tuple[str, ...]) -> list[str]:
    """For a known key written without its section (`epochs=3`), the key with it."""
    if path:
        return []
    return [
        f"{section.name}.{key}"
        for section in fields(Config)
        if isinstance(section.type, type) and key in {f.name for f in fields(section.type)}
    ][:1]


def _sentence(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"] if not isinstance(part, int))
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if error["type"] == "value_error":
        return f"{where}.{message}" if where else message
    return f"{where} is {error['input']!r} but should be {message}"


def _name_of(path: str) -> str:
    """The name under which the model of this input is registered: its file or folder, and never `demo`."""
    stem = Path(path).absolute().name.split(".")[0]
    name = re.sub(r"\W+", "-", stem).strip("-") or "model"
    return f"{name}-lm" if name == "demo" else name


_VALIDATOR: TypeAdapter[Config] = TypeAdapter(Config)
