import math
import subprocess
import sys

import pytest

from components.errors import UserError
from components.generate.language_model import LanguageModel
from components.model.scoring import score_documents
from components.vocab.tokenizer import EOS
from tests.components.evaluate.artifacts import (
    bpe_tokenizer,
    char_tokenizer,
    make_model,
    random_texts,
    word_tokenizer,
)


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    return LanguageModel.load(make_model(tmp_path_factory.mktemp("model"), word_tokenizer()))


def test_a_score_is_the_sum_over_the_tokens(language_model):
    texts = random_texts(20, seed=2)
    for text, score in zip(texts, language_model.score(texts), strict=True):
        tokens = language_model.tokenizer.encode(text)
        nll = score_documents(language_model.network, [tokens], 1)[0].sum()
        assert score.log_probability == pytest.approx(-nll, rel=1e-6)
        assert score.tokens == len(tokens) == len(text.split()) + len(text.split("\n"))
        assert score.perplexity == pytest.approx(math.exp(nll / len(tokens)), rel=1e-6)
        assert score.unknown == text.split().count("zebra")


@pytest.mark.parametrize("empty", ["", " \n\t\n "])
def test_a_text_without_a_token_is_refused_by_its_number(language_model, empty):
    with pytest.raises(UserError, match="text 2 of 2 is empty"):
        language_model.score(["the cat", empty])


def test_a_prompt_goes_on_where_it_stops(language_model):
    assert EOS not in language_model.encode_prompt("the cat")
    assert language_model.encode_prompt("the cat\nthe dog").count(EOS) == 1
    assert language_model.encode_prompt("") == []


@pytest.mark.parametrize("prompt", ["the old cat", "", "the cat .\na small"])
def test_prompt_and_continuation_read_as_one_text(language_model, prompt):
    (continuation,) = language_model.generate([prompt], 12, seed=5)
    whole = language_model.tokenizer.encode(prompt + continuation)
    assert whole[: len(language_model.encode_prompt(prompt))] == language_model.encode_prompt(prompt)
    assert continuation.split()


def test_characters_are_joined_without_spaces(tmp_path):
    tokenizer = char_tokenizer(["春眠不覺曉處處聞啼鳥"])
    model = LanguageModel.load(make_model(tmp_path, tokenizer))
    (continuation,) = model.generate(["春眠"], 8)
    assert set(continuation) <= {*tokenizer.tokens, "\n"}
    assert " " not in continuation


def test_bytes_that_end_inside_a_character_do_no_harm(tmp_path):
    tokenizer = bpe_tokenizer(["the cat sees a dog"] * 3)
    model = LanguageModel.load(make_model(tmp_path, tokenizer))
    first, *rest = tokenizer.encode_line("春")
    assert rest
    assert model.decode_continuation([first], rest) == tokenizer.decode(rest)
    the, *cat = tokenizer.encode_line("the cat")
    assert tokenizer.token(the) + model.decode_continuation([the], cat) == "the cat"
    assert len(model.generate(["the 春", ""], 30, seed=2)) == 2


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        LanguageModel.load(tmp_path / "nowhere")


def test_serving_needs_no_pyarrow():
    code = "import sys, components.generate.language_model; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert not {"pyarrow", "ray", "mlflow", "pipeline"} & set(loaded.stdout.split())
