import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from components.documents import Document, write_documents, write_table
from components.errors import UserError
from components.generate.language_model import LanguageModel
from components.vocab.tokenizer import BpeTokenizer, Tokenizer, WordTokenizer, byte_level_bpe
from pipeline.config import Config, RuntimeConfig, store_path
from pipeline.registry import MlflowRegistry, list_models, resolve
from pipeline.stages.register import REGISTER
from pipeline.tracking import open_tracker
from tests.pipeline.contexts import context
from tests.pipeline.models import make_model

TEXTS = ("the cat sat\nthe cat ran", "the dog ran", "the cat")
COUNTS = [0, 40, 40, 30, 20, 10, 20]
"""Of `<unk>`, `<eos>` and the words, about as in the texts: a model that knows them beats one that does not."""


@dataclass(frozen=True)
class Register:
    """Runs the stage on artifacts as the stages before it leave them."""

    folder: Path
    config: Config
    uri: str

    def __call__(self, model: Path, fingerprint: str) -> dict[str, Any]:
        """registration.json for this model."""
        clean, train, evaluate = (self.folder / fingerprint / name for name in ("clean", "train", "evaluate"))
        texts = [Document(id=f"t#{n}", text=text, source="t", offset=n) for n, text in enumerate(TEXTS)]
        write_documents(clean / "documents" / "test" / "part-00000.parquet", texts[:2])
        write_documents(clean / "documents" / "test" / "part-00001.parquet", texts[2:])
        shutil.copytree(model, train / "model", dirs_exist_ok=True)
        nll = [-score.log_probability for score in LanguageModel.load(model).score(TEXTS)]
        write_table(evaluate / "scores.parquet", pa.table({"id": list(TEXTS), "nll": nll}))
        metrics = {"perplexity": float(np.mean(nll)), "bits_per_byte": None}
        (evaluate / "evaluation.json").write_text(json.dumps({"metrics": metrics}))
        out = self.folder / fingerprint / "register"
        tracker = open_tracker(self.config, store_path(self.config))
        tracker.start({}, {})
        registry = MlflowRegistry(self.uri, run_id=tracker.stage("register").run_id)
        inputs = {"clean": clean, "train": train, "evaluate": evaluate}
        ctx = context(out, REGISTER, self.config, inputs, registry)
        metrics = REGISTER.run(replace(ctx, fingerprint=fingerprint))
        registration: dict[str, Any] = json.loads((out / "out" / "registration.json").read_text())
        assert metrics["version"] == registration["version"]
        assert metrics["promoted"] == int(registration["verdict"]["promoted"])
        return registration


@pytest.fixture
def register(tmp_path: Path, config: Config) -> Register:
    return Register(tmp_path / "work", config, f"sqlite:///{store_path(config)}/mlflow.db")


def bpe(text: str) -> Tokenizer:
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer

    inner = byte_level_bpe()
    alphabet = ByteLevel.alphabet()
    inner.train_from_iterator([text], BpeTrainer(vocab_size=262, initial_alphabet=alphabet, show_progress=False))
    return BpeTokenizer(inner, lowercase=False)


def test_the_first_model_is_the_champion(register: Register, tmp_path: Path) -> None:
    assert register(make_model(tmp_path / "1"), "f1") == {
        "name": "model",
        "version": 1,
        "uri": "models:/model/1",
        "alias_uri": "models:/model@champion",
        "registry": "store",
        "verdict": {
            "promoted": True,
            "reason": "there was no champion",
            "candidate_nll": None,
            "champion_nll": None,
        },
    }


def test_the_better_model_is_the_champion(register: Register, tmp_path: Path) -> None:
    poor, good = make_model(tmp_path / "poor"), make_model(tmp_path / "good", counts=COUNTS)
    register(poor, "f1")
    better = register(good, "f2")
    assert better["verdict"]["promoted"]
    assert better["verdict"]["candidate_nll"] < better["verdict"]["champion_nll"]
    worse = register(make_model(tmp_path / "poor 2", seed=1), "f3")
    assert not worse["verdict"]["promoted"]
    assert worse["alias_uri"] == "models:/model@candidate"
    assert worse["verdict"]["reason"] == "its loss on the test split is not below the champion's"
    # What the champion is given now, on another's test split, is what it had as candidate on the same text.
    assert worse["verdict"]["champion_nll"] == pytest.approx(better["verdict"]["candidate_nll"], abs=1e-4)
    assert list_models(register.uri)[0]["aliases"] == {"champion": 2, "candidate": 3}


def test_a_rerun_after_a_kill_registers_nothing_twice(register: Register, tmp_path: Path) -> None:
    good, poor = make_model(tmp_path / "good", counts=COUNTS), make_model(tmp_path / "poor")
    assert register(good, "f1")["version"] == 1
    again = register(good, "f1")
    assert (again["version"], again["alias_uri"]) == (1, "models:/model@champion")
    assert register(poor, "f2") == register(poor, "f2")
    (model,) = list_models(register.uri)
    assert [v["version"] for v in model["versions"]] == [1, 2]
    assert model["aliases"] == {"champion": 1, "candidate": 2}


def test_models_that_cannot_be_compared(register: Register, tmp_path: Path) -> None:
    register(make_model(tmp_path / "words", counts=COUNTS), "f1")
    other = WordTokenizer(["the", "cat"], lowercase=False, pretokenized=True)
    for number, tokenizer in enumerate((other, bpe("the cat"))):
        verdict = register(make_model(tmp_path / str(number), tokenizer), f"g{number}")["verdict"]
        assert not verdict["promoted"]
        assert "cannot be compared" in verdict["reason"] and "set the alias champion of model" in verdict["reason"]
        assert verdict["champion_nll"] is None


def test_lossless_tokenizers_meet_on_the_text(register: Register, tmp_path: Path) -> None:
    register(make_model(tmp_path / "1", bpe("the cat sat")), "f1")
    verdict = register(make_model(tmp_path / "2", bpe("a dog ran")), "f2")["verdict"]
    assert verdict["champion_nll"] is not None
    assert verdict["promoted"] == (verdict["candidate_nll"] < verdict["champion_nll"])


def test_a_moved_store_gets_its_champion_back(config: Config, tmp_path: Path) -> None:
    def registering(config: Config) -> Register:
        return Register(tmp_path / "work", config, f"sqlite:///{store_path(config)}/mlflow.db")

    model, old = make_model(tmp_path / "1", counts=COUNTS), registering(config)
    assert old(model, "f1")["version"] == 1
    shutil.move(store_path(config), tmp_path / "moved")
    new = registering(Config(runtime=RuntimeConfig(store=str(tmp_path / "moved"))))
    with pytest.raises(UserError, match=r"are gone .* `pipeline run --stage register --force`"):
        resolve("models:/model@champion", new.uri)
    again = new(model, "f1")
    assert (again["version"], again["alias_uri"]) == (2, "models:/model@champion")
    assert again["verdict"]["reason"] == "the files of the champion were gone"
    assert LanguageModel.load(resolve("models:/model@champion", new.uri)).score(TEXTS)


def test_a_registry_that_is_gone_is_told(config: Config) -> None:
    assert REGISTER.lost(config) is None
    database = store_path(config) / "mlflow.db"
    database.unlink()
    assert REGISTER.lost(config) == f"the registry {database} is gone"
    elsewhere = replace(config.runtime, tracking_uri="https://mlflow:5000")
    assert REGISTER.lost(replace(config, runtime=elsewhere)) is None


def test_the_registry_is_part_of_its_identity(tmp_path: Path) -> None:
    def world(uri: str | None) -> Any:
        return REGISTER.world(Config(runtime=RuntimeConfig(store=str(tmp_path), tracking_uri=uri)))

    assert world(None) == {"registry": "store"}
    assert world("https://me:secret@mlflow:5000") == {"registry": "https://mlflow:5000"}


def test_a_plain_folder_is_refused_before_anything_runs() -> None:
    REGISTER.check(Config())
    with pytest.raises(UserError, match=r"runtime\.tracking_uri \./mlruns is a folder"):
        REGISTER.check(Config(runtime=RuntimeConfig(tracking_uri="./mlruns")))
