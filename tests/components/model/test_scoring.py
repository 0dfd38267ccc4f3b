"""Documents scored side by side against one after the other, token by token."""

import random

import numpy as np
import pytest
import torch

from components.model.config import ModelConfig
from components.model.recurrent import CELLS, RecurrentLM
from components.model.scoring import score_documents
from components.vocab.tokenizer import EOS

VOCAB = 40


def made(cell: str = "lstm") -> RecurrentLM:
    model = RecurrentLM(ModelConfig(cell=cell, embedding_size=16, hidden_size=16, dropout=0.5), VOCAB)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    return model


def documents() -> list[list[int]]:
    rng = random.Random(3)
    return [[rng.randrange(VOCAB) for _ in range(length)] for length in (5, 1, 40, 0, 23, 8, 8, 9, 16, 17)]


@torch.no_grad()
def slowly(model: RecurrentLM, document: list[int]) -> list[float]:
    state, previous, nll = model.initial_state(1), EOS, []
    for token in document:
        hidden, state = model(torch.tensor([[previous]]), state)
        nll.append(-torch.log_softmax(model.logits(hidden)[0, 0], 0)[token].item())
        previous = token
    return nll


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("batch_size", "chunk"), [(1, 8), (3, 8), (8, 256), (100, 1)])
def test_equals_one_token_at_a_time(cell: str, batch_size: int, chunk: int) -> None:
    model = made(cell)
    scores = score_documents(model, documents(), batch_size, chunk)
    for document, score in zip(documents(), scores, strict=True):
        assert score.dtype == np.float64
        np.testing.assert_allclose(score, slowly(model, document), atol=5e-6)


def test_the_batch_size_changes_nothing() -> None:
    model = made()
    figures = [np.concatenate(score_documents(model, documents(), size)).mean() for size in (1, 8, 16)]
    assert figures == pytest.approx([figures[0]] * 3, rel=1e-6)


def test_arrays_of_token_ids_are_documents_too() -> None:
    model = made()
    arrays = [np.array(document, dtype=np.uint16) for document in documents()]
    for array, listed in zip(score_documents(model, arrays, 4), score_documents(model, documents(), 4), strict=True):
        np.testing.assert_array_equal(array, listed)


def test_nothing_to_score() -> None:
    assert score_documents(made(), [], 4) == []
    assert [len(score) for score in score_documents(made(), [[], []], 4)] == [0, 0]
