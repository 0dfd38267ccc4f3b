"""Other corpora than English prose with blank lines: Chinese, a tokenised benchmark, two workers."""

import json
from pathlib import Path

import pytest

from tests.runs import Finished, Shell, settings

FIXTURES = Path(__file__).parents[1] / "fixtures"
DATA = Path(__file__).parents[3] / "shared" / "data"
CONFIGS = Path(__file__).parents[2] / "configs"

SMALL = (
    "model.layers=1", "model.embedding_size=32", "model.hidden_size=32", "train.batch_size=4", "train.bptt=16",
    "train.epochs=2", "corpus.valid_fraction=0.15", "corpus.test_fraction=0.15", "evaluate.prompt_tokens=4",
    "evaluate.continuation_tokens=8", "evaluate.samples=2",
)  # fmt: skip


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_chinese_from_text_to_version(shell: Shell, kind: str) -> None:
    changes = [*SMALL, f"vocab.kind={kind}", "corpus.document=line"]
    result = shell.json("run", "--input", str(FIXTURES / "chinese.txt"), *settings(changes))
    metrics = result["metrics"]
    assert result["model"] == {"name": "chinese", "version": 1, "uri": "models:/chinese/1"}
    assert metrics["perplexity"] > 1
    assert metrics["word_perplexity"] is None, "Chinese is written without spaces"
    assert (metrics["bits_per_byte"] is not None) == (kind == "bpe")
    evaluation = json.loads((Path(result["stages"][4]["path"]) / "evaluation.json").read_text())
    assert "tok:zh" in json.dumps(evaluation)
    made = shell.json("generate", "--model", "models:/chinese@champion", "--prompt", "我们", "--max-tokens", "12")
    assert made["continuations"][0]["text"]


@pytest.mark.data
@pytest.mark.skipif(not (DATA / "brown").is_dir(), reason=f"the corpora are not at {DATA}")
def test_brown_has_the_published_tokens(shell: Shell) -> None:
    explicit = [f"corpus.{split}=[{DATA}/brown/{split}.txt]" for split in ("train", "valid", "test")]
    arguments = ["--config", str(CONFIGS / "brown-small.yaml"), *settings(explicit)]
    shard = shell.json("run", "--stage", "shard", *arguments)["stages"][2]
    splits = json.loads((Path(shard["path"]) / "index.json").read_text())["splits"]
    assert [splits[name]["tokens"] for name in ("train", "valid", "test")] == [801_495, 199_841, 173_689]
    assert [splits[name]["words"] for name in ("train", "valid", "test")] == [801_495, 199_841, 173_689]


def test_two_workers_train_together(finished: Finished, shell: Shell) -> None:
    (shell.folder / "tales").symlink_to(finished.shell.folder / "tales")
    result = shell.json("run", *finished.arguments, "--set", "runtime.workers=2", "--set", "train.epochs=1")
    train = next(Path(s["path"]) for s in result["stages"] if s["name"] == "train")
    lines = [json.loads(line) for line in (train / "metrics.jsonl").read_text().splitlines()]
    assert {line["world_size"] for line in lines if "loss" in line} == {2}
    assert result["metrics"]["perplexity"] < result["metrics"]["unigram_perplexity"]
