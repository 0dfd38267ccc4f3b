"""A model at rest: a folder of JSON and safetensors, checked when it is read.

config.json           format, model settings, vocabulary size, SHA-256 of the two files below and of all this
weights.safetensors   fp32 parameters
tokenizer.json
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError

from components.errors import UserError
from components.model.config import ModelConfig
from components.model.recurrent import RecurrentLM
from components.vocab.tokenizer import Tokenizer, load_tokenizer, save_tokenizer

FORMAT = 1


def save_model(folder: Path, model: RecurrentLM, tokenizer: Tokenizer) -> None:
    """Write the model folder; the bytes depend on the model and the tokenizer only."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: weight.detach().cpu().contiguous() for name, weight in model.state_dict().items()}
    content = safetensors.torch.save(weights)
    (folder / "weights.safetensors").write_bytes(content)
    save_tokenizer(tokenizer, folder / "tokenizer.json")
    config = {
        "format": FORMAT,
        "model": asdict(model.config),
        "vocab_size": model.vocab_size,
        "weights_sha256": hashlib.sha256(content).hexdigest(),
        "tokenizer_sha256": hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest(),
    }
    signed = config | {"self_sha256": config_hash(config)}
    (folder / "config.json").write_text(json.dumps(signed, indent=1) + "\n", encoding="utf-8")


def config_hash(config: Mapping[str, Any]) -> str:
    """SHA-256 of the fields of config.json other than the one that holds it: not all of them shape a tensor."""
    others = {key: value for key, value in config.items() if key != "self_sha256"}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()


def load_model(folder: Path, device: str = "cpu") -> tuple[RecurrentLM, Tokenizer]:
    """Read a model folder.

    Raises UserError naming the file that is missing, damaged, changed or of another format.
    """
    config = _read_config(folder)
    content = _verified(folder / "weights.safetensors", config["weights_sha256"])
    _verified(folder / "tokenizer.json", config["tokenizer_sha256"])
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    try:
        model = RecurrentLM(ModelConfig(**config["model"]), config["vocab_size"])
        model.load_state_dict(safetensors.torch.load(content))
    except (TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder / 'config.json'} does not describe the weights beside it: {error}") from None
    if tokenizer.size != model.vocab_size:
        raise UserError(
            f"{folder / 'tokenizer.json'} has {tokenizer.size} tokens but the model {model.vocab_size}; "
            "use the tokenizer that the model was trained with"
        )
    return model.to(device), tokenizer


def _read_config(folder: Path) -> dict[str, Any]:
    content = _read(folder / "config.json")
    try:
        config = json.loads(content)
    except ValueError:
        raise UserError(f"{folder / 'config.json'} is damaged: not JSON; copy the model folder again") from None
    needed = {"format", "model", "vocab_size", "weights_sha256", "tokenizer_sha256", "self_sha256"}
    if not isinstance(config, dict) or config.get("format") != FORMAT or not needed <= config.keys():
        raise UserError(f"{folder / 'config.json'} is not a model of format {FORMAT}; train it with this version")
    if config["self_sha256"] != config_hash(config):
        raise UserError(f"{folder / 'config.json'} is damaged or was changed; copy the model folder again")
    return config


def _verified(path: Path, sha256: object) -> bytes:
    content = _read(path)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise UserError(f"{path} is damaged or was changed: its SHA-256 is not the one in config.json")
    return content


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); --model needs a complete model folder") from None
