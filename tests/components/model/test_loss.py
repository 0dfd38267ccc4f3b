"""The block-wise loss against PyTorch's."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from components.model import loss as loss_module
from components.model.loss import nll_loss


def inputs(rows: int = 37, vocab: int = 50, width: int = 12) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(rows, width, generator=generator, requires_grad=True)
    weight = torch.randn(vocab, width, generator=generator, requires_grad=True)
    bias = torch.randn(vocab, generator=generator, requires_grad=True)
    return hidden, weight, bias, torch.randint(vocab, (rows,), generator=generator)


@pytest.mark.parametrize("rows_of_a_block", [1, 5, 36, 37, 1000])
def test_fp32_equals_cross_entropy(monkeypatch: pytest.MonkeyPatch, rows_of_a_block: int) -> None:
    hidden, weight, bias, targets = inputs()
    monkeypatch.setattr(loss_module, "BLOCK_ELEMENTS", rows_of_a_block * len(weight))
    ours = nll_loss(hidden, weight, bias, targets)
    plain = cross_entropy(linear(hidden, weight, bias), targets)
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-6)
    leaves = [hidden, weight, bias]
    for mine, theirs in zip(torch.autograd.grad(3 * ours, leaves), torch.autograd.grad(3 * plain, leaves), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


def test_bf16_is_close_and_its_gradients_point_the_same_way() -> None:
    hidden, weight, bias, targets = inputs()
    ours = nll_loss(hidden, weight, bias, targets, "bf16")
    plain = cross_entropy(linear(hidden, weight, bias), targets)
    torch.testing.assert_close(ours, plain, rtol=5e-3, atol=0)
    leaves = [hidden, weight, bias]
    for mine, theirs in zip(torch.autograd.grad(ours, leaves), torch.autograd.grad(plain, leaves), strict=True):
        assert mine.dtype == torch.float32
        assert torch.cosine_similarity(mine.flatten(), theirs.flatten(), dim=0) > 0.999


def test_the_inputs_are_left_alone() -> None:
    hidden, weight, bias, targets = inputs()
    before = [tensor.detach().clone() for tensor in (hidden, weight, bias)]
    nll_loss(hidden, weight, bias, targets).backward()
    assert all(torch.equal(*pair) for pair in zip(before, (hidden, weight, bias), strict=True))
