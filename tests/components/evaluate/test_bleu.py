import json

import pytest
import sacrebleu

from components.evaluate.bleu import compare, continue_documents, one_line, tokenizer_for
from components.evaluate.config import EvaluateConfig
from components.generate.language_model import LanguageModel
from tests.components.evaluate.artifacts import (
    make_clean,
    make_model,
    make_shard,
    random_texts,
    word_tokenizer,
)

SETTINGS = EvaluateConfig(
    bleu_documents=70, prompt_tokens=6, continuation_tokens=10, samples=3, sample_tokens=9, temperature=0.8
)
TEXTS = {
    "train": ["the cat"],
    "valid": ["the dog"],
    "test": ["the cat", *random_texts(80, seed=5), "the cat sees a bird in the"],
}


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    folder, tokenizer = tmp_path_factory.mktemp("artifacts"), word_tokenizer()
    return {
        "shard": str(make_shard(folder / "shard", make_clean(folder / "clean", TEXTS), tokenizer)),
        "model": str(make_model(folder / "model", tokenizer)),
    }


def run(artifacts, out, settings=SETTINGS):
    out.mkdir(exist_ok=True)
    result = continue_documents(**artifacts, split="test", spaceless=False, settings=settings, out=out)
    rows = [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]
    return result, rows


def test_continuations_are_greedy_and_as_long_as_the_truth(artifacts, tmp_path):
    result, rows = run(artifacts, tmp_path)
    continuations = [row for row in rows if row["kind"] == "continuation"]
    assert result["documents"] == len(continuations) == 70
    long_enough = [text for text in TEXTS["test"] if len(text.split()) + len(text.split("\n")) >= 10]
    model = LanguageModel.load(artifacts["model"])
    for text, row in zip(long_enough, continuations, strict=False):
        tokens = model.tokenizer.encode(text)
        assert row["prompt"] == one_line(model.tokenizer.decode(tokens[:6]))
        assert row["reference"] == one_line(model.tokenizer.decode(tokens[6:16]))
    text, row = long_enough[0], continuations[0]
    prompt = model.tokenizer.decode(model.tokenizer.encode(text)[:6])
    if "\n" not in prompt:
        assert row["continuation"] == one_line(model.generate([prompt], 10, temperature=0)[0])


def test_scores_are_sacrebleus(artifacts, tmp_path):
    result, rows = run(artifacts, tmp_path)
    hypotheses = [row["continuation"] for row in rows if row["kind"] == "continuation"]
    references = [row["reference"] for row in rows if row["kind"] == "continuation"]
    assert result["bleu"] == pytest.approx(sacrebleu.corpus_bleu(hypotheses, [references]).score)
    assert result["chrf"] == pytest.approx(sacrebleu.corpus_chrf(hypotheses, [references]).score)
    assert "tok:13a" in result["bleu_signature"]
    assert sacrebleu.__version__ in result["chrf_signature"]


def test_the_same_bytes_twice(artifacts, tmp_path):
    run(artifacts, tmp_path / "once")
    run(artifacts, tmp_path / "again")
    assert (tmp_path / "once/samples.jsonl").read_bytes() == (tmp_path / "again/samples.jsonl").read_bytes()


def test_free_samples_differ_from_each_other(artifacts, tmp_path):
    _, rows = run(artifacts, tmp_path)
    samples = [row["text"] for row in rows if row["kind"] == "sample"]
    assert len(set(samples)) == 3


def test_no_document_is_long_enough(artifacts, tmp_path):
    result, rows = run(artifacts, tmp_path, EvaluateConfig(prompt_tokens=5000, samples=2))
    assert result["bleu"] is None
    assert result["chrf"] is None
    assert "5004 tokens; lower evaluate.prompt_tokens" in result["reason"]
    assert [row["kind"] for row in rows] == ["sample", "sample"]


@pytest.mark.parametrize(
    ("texts", "spaceless", "tokenizer"),
    [
        (["the cat"], False, "13a"),
        (["春眠不覺曉，處處聞啼鳥。 BLEU"], True, "zh"),
        (["わたしは東京にすんでいます"], True, "char"),
        (["แมวนั่งบนเสื่อ"], True, "char"),
        ([""], True, "char"),
    ],
)
def test_the_tokenizer_suits_the_script(texts, spaceless, tokenizer):
    assert tokenizer_for(texts, spaceless=spaceless) == tokenizer


def test_chinese_is_compared_by_characters():
    result = compare(["春眠不覺曉處處聞啼"], ["春眠不覺曉處處聞鳥"], spaceless=True)
    assert "tok:zh" in result["bleu_signature"]
    assert 50 < result["bleu"] < 100


def test_line_ends_become_spaces():
    assert one_line(" the cat\nsees  a\tdog\n") == "the cat sees a dog"
