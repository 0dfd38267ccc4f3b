"""The cells against literal transcriptions of their formulas, and what the stack around them promises."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from components.errors import UserError
from components.model.config import ModelConfig
from components.model.recurrent import CELLS, RecurrentLM

SMALL = ModelConfig(embedding_size=6, hidden_size=10, layers=2, dropout=0.5)
VOCAB = 17


def tokens(batch: int = 3, time: int = 9) -> Tensor:
    return torch.randint(VOCAB, (batch, time), generator=torch.Generator().manual_seed(4))


def perturbed(config: ModelConfig) -> RecurrentLM:
    """A model whose biases are not zero either."""
    model = RecurrentLM(config, VOCAB)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return model


def test_a_plain_rnn_is_the_textbook_formula() -> None:
    model = perturbed(replace(SMALL, cell="rnn", layers=1, tied=False))
    layer = model.layers[0]
    W_xh, W_hh = (getattr(layer, name).detach().double().numpy() for name in ("weight_ih_l0", "weight_hh_l0"))
    b_h = (layer.bias_ih_l0 + layer.bias_hh_l0).detach().double().numpy()
    W_hy, b_y = (parameter.detach().double().numpy() for parameter in model.output_weights)
    ids = tokens(batch=1)
    hidden, _ = model(ids, model.initial_state(1))
    ours = torch.softmax(model.logits(hidden), -1)[0].detach().numpy()
    h = np.zeros(10)
    for t, token in enumerate(ids[0]):
        x = model.embedding.weight[token].detach().double().numpy()
        h = np.tanh(W_xh @ x + W_hh @ h + b_h)
        z = np.exp(W_hy @ h + b_y)
        np.testing.assert_allclose(ours[t], z / z.sum(), atol=1e-6, rtol=0)


def lstm_step(layer: nn.Module, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    h, c = state
    a = x @ layer.weight_ih_l0.T + layer.bias_ih_l0 + h @ layer.weight_hh_l0.T + layer.bias_hh_l0
    i, f, g, o = a.chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def gru_step(layer: nn.Module, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    (h,) = state
    x_r, x_z, x_n = (x @ layer.weight_ih_l0.T + layer.bias_ih_l0).chunk(3, -1)
    h_r, h_z, h_n = (h @ layer.weight_hh_l0.T + layer.bias_hh_l0).chunk(3, -1)
    r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
    n = torch.tanh(x_n + r * h_n)
    return ((1 - z) * n + z * h,)


def rnn_step(layer: nn.Module, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    (h,) = state
    return (torch.tanh(x @ layer.weight_ih_l0.T + layer.bias_ih_l0 + h @ layer.weight_hh_l0.T + layer.bias_hh_l0),)


STEPS = {"lstm": lstm_step, "gru": gru_step, "rnn": rnn_step}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_a_stack_equals_its_cells_step_by_step(cell: str, tied: bool) -> None:
    model = perturbed(replace(SMALL, cell=cell, tied=tied))
    ids = tokens()
    hidden, state = model(ids, model.initial_state(3))
    slow = model.initial_state(3)
    with torch.no_grad():
        for t in range(ids.shape[1]):
            x = model.embedding(ids[:, t])
            for number, layer in enumerate(model.layers):
                slow[number] = STEPS[cell](layer, x, slow[number])
                x = slow[number][0]
            torch.testing.assert_close(hidden[:, t].detach(), x, atol=1e-6, rtol=0)
    for ours, theirs in zip(state, slow, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a.detach(), b, atol=1e-6, rtol=0)


@pytest.mark.parametrize("cell", CELLS)
def test_the_state_joins_segments(cell: str) -> None:
    model = perturbed(replace(SMALL, cell=cell))
    ids = tokens()
    whole, _ = model(ids, model.initial_state(3))
    first, state = model(ids[:, :4], model.initial_state(3))
    second, _ = model(ids[:, 4:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole, atol=1e-6, rtol=0)


def test_dropout_is_a_function_of_the_generator() -> None:
    model = RecurrentLM(SMALL, VOCAB)
    ids, state = tokens(), model.initial_state(3)

    def hidden(seed: int) -> Tensor:
        return model(ids, state, torch.Generator().manual_seed(seed))[0]

    assert torch.equal(hidden(1), hidden(1))
    assert not torch.equal(hidden(1), hidden(2))
    assert (hidden(1) == 0).float().mean().item() == pytest.approx(0.5, abs=0.15)
    assert (model(ids, state)[0] != 0).all()


def test_dropout_keeps_the_expectation() -> None:
    model = RecurrentLM(replace(SMALL, dropout=0.3), VOCAB)
    ones = torch.ones(200, 200)
    dropped = model._dropout(ones, torch.Generator().manual_seed(0))
    assert dropped.mean().item() == pytest.approx(1, abs=0.02)
    assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.7])


def test_tied_weights_are_one_matrix() -> None:
    tied, untied = RecurrentLM(SMALL, VOCAB), RecurrentLM(replace(SMALL, tied=False), VOCAB)
    assert tied.output_weights[0] is tied.embedding.weight
    assert untied.output_weights[0].shape == (VOCAB, 10)
    assert tied.parameter_count == sum(tensor.numel() for tensor in tied.state_dict().values())


def test_the_first_prediction_is_the_unigram_model() -> None:
    model = RecurrentLM(SMALL, VOCAB)
    counts = np.arange(VOCAB) ** 2
    model.init_output_bias(counts)
    torch.testing.assert_close(
        torch.softmax(model.softmax_bias_V.detach().double(), 0),
        torch.from_numpy((counts + 1) / (counts + 1).sum()),
        rtol=1e-5,
        atol=0,
    )
    assert model.softmax_bias_V.mean().item() == pytest.approx(0, abs=1e-6)


def test_initial_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    one = RecurrentLM(SMALL, VOCAB, seed=7).state_dict()
    torch.manual_seed(2)
    two = RecurrentLM(SMALL, VOCAB, seed=7).state_dict()
    other = RecurrentLM(SMALL, VOCAB, seed=8).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["embedding.weight"], other["embedding.weight"])


@pytest.mark.parametrize("cell", CELLS)
def test_a_bf16_state_computes_in_bf16_near_fp32(cell: str) -> None:
    model = RecurrentLM(replace(SMALL, cell=cell), VOCAB)
    exact, _ = model(tokens(), model.initial_state(3))
    rough, state = model(tokens(), model.initial_state(3, torch.bfloat16))
    assert rough.dtype == torch.bfloat16 and state[0][0].dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), exact, atol=2e-2, rtol=0)


def test_an_unknown_cell_is_refused() -> None:
    with pytest.raises(UserError, match="lstm, rnn, gru"):
        RecurrentLM(ModelConfig(cell="elman"), VOCAB)  # type: ignore[arg-type]
