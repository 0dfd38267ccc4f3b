import json
import math
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from components.errors import UserError
from components.evaluate.config import EvaluateConfig
from components.generate.language_model import LanguageModel
from pipeline.config import Config
from pipeline.stages.evaluate import EVALUATE
from tests.components.evaluate.artifacts import (
    WORDS,
    char_tokenizer,
    make_clean,
    make_shard,
    make_train,
    make_vocab,
    random_texts,
    word_tokenizer,
)
from tests.pipeline.contexts import context

TEXTS = {
    "train": random_texts(40, seed=1),
    "valid": random_texts(8, seed=2),
    "test": random_texts(30, seed=3),
}
SETTINGS = EvaluateConfig(
    batch_size=4, bleu_documents=10, prompt_tokens=5, continuation_tokens=8, samples=2, sample_tokens=10
)
METRICS = {
    "perplexity",
    "word_perplexity",
    "bits_per_byte",
    "bleu",
    "chrf",
    "unigram_perplexity",
    "unknown_rate",
    "test_tokens",
}


def make_inputs(folder, texts=TEXTS, tokenizer=None, *, spaceless=False):
    tokenizer = tokenizer or word_tokenizer()
    clean = make_clean(folder / "clean", texts, spaceless=spaceless, files=2)
    return {
        "clean": clean,
        "vocab": make_vocab(folder / "vocab", tokenizer),
        "shard": make_shard(folder / "shard", clean, tokenizer, spaceless=spaceless),
        "train": make_train(folder / "train", tokenizer),
    }


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return make_inputs(tmp_path_factory.mktemp("store"))


def run(folder, inputs, settings=SETTINGS):
    ctx = context(folder, EVALUATE, Config(evaluate=settings), inputs)
    return EVALUATE.run(ctx), ctx.out


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_figures_are_those_of_the_model(inputs, tmp_path):
    metrics, out = run(tmp_path, inputs)
    scores = LanguageModel.load(inputs["train"] / "model").score(TEXTS["test"])
    tokens, nll = sum(s.tokens for s in scores), -sum(s.log_probability for s in scores)
    assert set(metrics) == METRICS
    assert metrics["perplexity"] == pytest.approx(math.exp(nll / tokens), rel=1e-6)
    assert metrics["word_perplexity"] == pytest.approx(metrics["perplexity"])
    assert metrics["bits_per_byte"] is None
    assert metrics["unknown_rate"] == sum(s.unknown for s in scores) / tokens
    assert metrics["test_tokens"] == tokens
    assert metrics["unigram_perplexity"] == pytest.approx(len(WORDS) + 2, rel=0.2)  # words are uniform
    rows = pq.read_table(out / "scores.parquet").to_pylist()
    assert [row["tokens"] for row in rows] == [s.tokens for s in scores]


def test_the_artifact_says_how_it_was_measured(inputs, tmp_path):
    metrics, out = run(tmp_path, inputs)
    evaluation = json.loads((out / "evaluation.json").read_text())
    assert evaluation["metrics"] == metrics
    assert evaluation["signatures"]["perplexity"] == "ppl|unit:token|ctx:document|unk:closed|eos:y|v:1"
    assert "tok:13a" in evaluation["signatures"]["bleu"]
    assert evaluation["counts"]["documents"] == 30
    assert evaluation["bleu"] == {"documents": 10, "reason": None}
    assert {path.name for path in (out / "figures").iterdir()} == {"loss.svg", "funnel.svg"}
    assert "Continuations" in (out / "report.html").read_text()


def test_the_same_bytes_twice_and_after_a_kill(inputs, tmp_path):
    _, once = run(tmp_path / "once", inputs)
    before = contents(once)
    run(tmp_path / "once", inputs)  # what a killed attempt has left behind is there again
    _, again = run(tmp_path / "again", inputs)
    assert contents(once) == before == contents(again)
    assert not any(str(tmp_path).encode() in data for data in before.values())


def test_text_without_spaces(tmp_path):
    verse = ["春眠不覺曉處處聞啼鳥", "夜來風雨聲花落知多少", "白日依山盡黃河入海流欲窮千里目更上一層樓"]
    texts = {"train": verse, "valid": verse[:1], "test": verse}
    metrics, out = run(tmp_path / "run", make_inputs(tmp_path, texts, char_tokenizer(verse), spaceless=True))
    assert metrics["word_perplexity"] is None
    assert metrics["bits_per_byte"] is None
    assert "tok:zh" in json.loads((out / "evaluation.json").read_text())["signatures"]["bleu"]


def test_a_test_split_without_long_documents_has_no_bleu_but_a_reason(tmp_path):
    texts = {**TEXTS, "test": ["the cat", "a dog sees", "in the tree"] * 5}
    metrics, out = run(tmp_path / "run", make_inputs(tmp_path, texts))
    assert metrics["bleu"] is None
    assert metrics["chrf"] is None
    assert json.loads((out / "evaluation.json").read_text())["bleu"]["reason"] in (out / "report.html").read_text()


def test_a_test_split_that_is_too_small_is_told_with_its_size(tmp_path):
    inputs = make_inputs(tmp_path, {**TEXTS, "test": ["the cat sees"]})
    with pytest.raises(UserError, match=r"test split has 4 tokens .* needs 13.*corpus\.test_fraction"):
        run(tmp_path / "run", inputs)


def test_a_damaged_model_is_named(tmp_path):
    inputs = make_inputs(tmp_path)
    weights = inputs["train"] / "model/weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\x7f")
    with pytest.raises(UserError, match=r"weights\.safetensors"):
        run(tmp_path / "run", inputs)


def test_the_stage_is_known_without_engines():
    code = "import sys, pipeline.stages.evaluate; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert not {"torch", "ray", "mlflow", "matplotlib", "sacrebleu", "jinja2"} & set(loaded.stdout.split())
