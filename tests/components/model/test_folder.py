"""A model at rest comes back the same, or is refused."""

import json
from pathlib import Path

import pytest
import torch

from components.errors import UserError
from components.model.config import ModelConfig
from components.model.folder import config_hash, load_model, save_model
from components.model.recurrent import CELLS, RecurrentLM
from components.vocab.tokenizer import WordTokenizer

FILES = ("config.json", "weights.safetensors", "tokenizer.json")


def saved(folder: Path, cell: str = "lstm", tied: bool = True) -> RecurrentLM:
    config = ModelConfig(cell=cell, tied=tied, embedding_size=4, hidden_size=6)  # type: ignore[arg-type]
    model = RecurrentLM(config, 5)
    save_model(folder, model, WordTokenizer(["a", "b", "c"], lowercase=False, pretokenized=True))
    return model


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_round_trip(tmp_path: Path, cell: str, tied: bool) -> None:
    model = saved(tmp_path / "model", cell, tied)
    read, tokenizer = load_model(tmp_path / "model")
    assert read.config == model.config
    assert tokenizer.encode("a c") == [2, 4, 1]
    assert all(torch.equal(weight, read.state_dict()[name]) for name, weight in model.state_dict().items())


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    saved(tmp_path / "one")
    saved(tmp_path / "two")
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("harm", ["missing", "truncated", "flipped", "empty"])
def test_a_harmed_file_is_named(tmp_path: Path, name: str, harm: str) -> None:
    saved(tmp_path)
    path = tmp_path / name
    content = bytearray(path.read_bytes())
    content[content.index(b"0") if name == "config.json" else len(content) // 2] ^= 1
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes({"truncated": content[: len(content) // 2], "flipped": content, "empty": b""}[harm])
    with pytest.raises(UserError) as caught:
        load_model(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", 2),
        ("vocab_size", 6),
        ("vocab_size", "5"),
        ("model", {"cell": "lstm", "embedding_size": 8}),
        ("model", {"cell": "transformer"}),
        ("model", {"unknown": 1}),
        ("model", None),
    ],
)
def test_a_config_of_something_else_is_refused(tmp_path: Path, key: str, value: object) -> None:
    saved(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {key: value}
    (tmp_path / "config.json").write_text(json.dumps(config | {"self_sha256": config_hash(config)}))
    with pytest.raises(UserError, match=r"config\.json (is not a model of|does not describe the weights)"):
        load_model(tmp_path)


@pytest.mark.parametrize("change", [{"hidden_size": 7}, {"dropout": 0.9}])
def test_a_setting_that_shapes_no_tensor_cannot_be_changed_either(tmp_path: Path, change: dict[str, object]) -> None:
    tied = RecurrentLM(ModelConfig(layers=1, embedding_size=4, hidden_size=6), 5)
    save_model(tmp_path, tied, WordTokenizer(["a", "b", "c"], lowercase=False, pretokenized=True))
    config = json.loads((tmp_path / "config.json").read_text())
    config["model"] |= change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"config\.json is damaged or was changed"):
        load_model(tmp_path)
