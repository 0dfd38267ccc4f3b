"""The config tree: composed from defaults, file and overrides; every mistake is one sentence with the fix."""

from pathlib import Path

import pytest
import yaml

from components.errors import UserError
from pipeline.config import identity, load_config
from pipeline.template import config_template


def test_without_a_word_about_the_corpus_it_is_the_demo() -> None:
    config = load_config()
    assert config.corpus.source == "python-docs"
    assert config.register.name == "demo"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("notes.txt", "notes"),
        ("a/my texts.jsonl.gz", "my-texts"),
        ("demo.txt", "demo-lm"),
        ("语料/", "语料"),
        ("...", "model"),
    ],
)
def test_input_names_the_model(path: str, name: str) -> None:
    config = load_config(inputs=[path])
    assert (config.corpus.source, config.corpus.paths, config.register.name) == (None, (path,), name)


def test_input_does_not_override_a_name_that_was_given() -> None:
    assert load_config(None, ["register.name=mine"], inputs=["notes.txt"]).register.name == "mine"


def test_overrides_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("corpus: {paths: [a.txt]}\ntrain:\n  learning_rate: 3e-4\n  epochs: 2\n")
    config = load_config(file, ["train.epochs=5"], store="elsewhere", address="ray://x")
    assert config.train.learning_rate == pytest.approx(3e-4)
    assert (config.train.epochs, config.runtime.store, config.runtime.address) == (5, "elsewhere", "ray://x")
    assert config.register.name == "model"


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("train.learning_rat=1", "did you mean train.learning_rate?"),
        ("epochs=3", "did you mean train.epochs?"),
        ("trian.epochs=3", "did you mean train?"),
        ("train.epochs=many", "train.epochs is 'many' but should be a valid integer"),
        ("train.epochs=0", "train.epochs must be at least 1"),
        ("model.dropout=1.5", "model.dropout must be at least 0 and below 1"),
        ("vocab.kind=wrd", "vocab.kind is 'wrd' but should be 'word', 'char' or 'bpe'"),
        ("vocab.size=100", "vocab.size must be at least 258 for kind bpe"),
        ("train=3", "train is a section"),
        ("runtime.store=s3://bucket/x", "runtime.store must be a local or mounted folder"),
        ("train.epochs", "write it as section.key=value"),
        ("corpus.paths=[", "not valid YAML"),
        ("register.name=a/b", "register.name must be made of letters, digits"),
        ("train.batch_size=true", "train.batch_size is true but is no switch"),
        ("runtime.checkpoint_minutes=.nan", "runtime.checkpoint_minutes must be a number"),
        ("corpus.test_fraction=1", "corpus.valid_fraction and test_fraction must"),
    ],
)
def test_mistakes_are_told_with_the_fix(override: str, told: str) -> None:
    with pytest.raises(UserError) as error:
        load_config(None, [override])
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("train: [", "not valid YAML"),
        ("- a\n- b\n", "the top level must be sections"),
        ("train: {epoch: 1}\n", "unknown config key train.epoch; did you mean train.epochs?"),
        ("a: !!python/object/apply:os.system [ls]\n", "not valid YAML"),
        ("\udcff", "is not UTF-8 (byte 0)"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError) as error:
        load_config(file)
    assert told in str(error.value)
    assert str(file) in str(error.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(UserError, match=r"nowhere\.yaml does not exist"):
        load_config(Path("nowhere.yaml"))


def test_where_the_text_lies_is_no_part_of_its_identity() -> None:
    settings = identity(load_config(inputs=["a.txt"]).corpus)
    assert settings.keys() == {"valid_fraction", "test_fraction", "document", "pretokenized", "text_key"}


def test_the_template_is_the_defaults_with_a_comment_for_every_key(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(config_template(["notes/"], "mine.yaml"))
    config = load_config(file)
    assert config.corpus.paths == ("notes/",)
    defaults = load_config(None, ["corpus.paths=[notes/]"])
    assert config == defaults
    lines = file.read_text().splitlines()
    keys = [i for i, line in enumerate(lines) if line.startswith("  ") and not line.startswith("  #")]
    assert len(keys) == sum(len(section) for section in yaml.safe_load(file.read_text()).values())
    assert all(lines[i - 1].startswith("  # ") for i in keys)
