"""Mean negative log-likelihood without ever holding the logits of a whole batch.

The softmax layer is most of a small language model's arithmetic (76 % at 10,000 words, 91 % at 33,000), and
its (N, V) logits are by far the largest tensor. Rows are taken in blocks: logits, loss and gradients of a
block are computed together, in a buffer that the next block uses again. So the gradients are ready before
`backward` asks for them.
"""

from typing import Any, Literal

import torch
from torch import Tensor

BLOCK_ELEMENTS = 1 << 22
"""Logits of a block: 16 MiB of fp32, less than what glibc maps (and the kernel clears) anew every time."""


def nll_loss(
    hidden_NH: Tensor,
    weight_VH: Tensor,
    bias_V: Tensor,
    targets_N: Tensor,
    precision: Literal["fp32", "bf16"] = "fp32",
) -> Tensor:
    """Mean of -log softmax(W h + b)[target] over N tokens, in nats.

    With `bf16` the matrix products take bfloat16; softmax, sums and the gradients of the weights stay fp32.
    """
    hidden_NH = hidden_NH.to(torch.bfloat16 if precision == "bf16" else torch.float32)
    loss: Tensor = _LinearNLL.apply(hidden_NH, weight_VH, bias_V, targets_N)  # type: ignore[no-untyped-call]
    return loss


class _LinearNLL(torch.autograd.Function):
    """Linear layer and negative log-likelihood in one; the matrix products have the type of `hidden_NH`."""

    @staticmethod
    def forward(ctx: Any, hidden_NH: Tensor, weight_VH: Tensor, bias_V: Tensor, targets_N: Tensor) -> Tensor:
        N, V = len(hidden_NH), len(weight_VH)
        weight = weight_VH.to(hidden_NH.dtype)
        grad_hidden = torch.empty_like(hidden_NH)
        grad_weight, grad_bias = torch.zeros_like(weight_VH), torch.zeros_like(bias_V)
        total = torch.zeros((), dtype=torch.float64, device=hidden_NH.device)
        rows = min(N, max(1, BLOCK_ELEMENTS // V))
        buffer = torch.empty(rows, V, dtype=hidden_NH.dtype, device=hidden_NH.device)
        for start in range(0, N, rows):
            hidden_RH, targets_R1 = hidden_NH[start : start + rows], targets_N[start : start + rows, None]
            product_RV = torch.mm(hidden_RH, weight.t(), out=buffer[: len(hidden_RH)])
            logits_RV = product_RV.float().add_(bias_V)  # fp32: float() copies nothing and add_ works in place
            norm_R1 = logits_RV.logsumexp(1, keepdim=True)
            total += (norm_R1 - logits_RV.gather(1, targets_R1)).sum(dtype=torch.float64)
            # d loss / d logits = (softmax - one_hot(target)) / N
            slope_RV = logits_RV.sub_(norm_R1).exp_()
            slope_RV.scatter_add_(1, targets_R1, torch.full_like(norm_R1, -1.0)).div_(N)
            grad_bias += slope_RV.sum(0)
            slope_RV = product_RV.copy_(slope_RV)
            torch.mm(slope_RV, weight, out=grad_hidden[start : start + rows])
            grad_weight += slope_RV.t() @ hidden_RH
        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
        return (total / N).float()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Scale what `forward` has computed."""
        return (*(saved * grads[0].to(saved.dtype) for saved in ctx.saved_tensors), None)
