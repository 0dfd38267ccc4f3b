"""Exact log-likelihoods of whole documents.

Documents are sorted by length and scored side by side in pieces of time. The state is carried from piece to
piece, and a document that has ended leaves the batch, so nothing but the ends of pieces is padding.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from components.model.loss import BLOCK_ELEMENTS
from components.model.recurrent import RecurrentLM
from components.vocab.tokenizer import EOS

Tokens = np.ndarray | Sequence[int]


@torch.no_grad()
def score_documents(
    model: RecurrentLM, documents: Sequence[Tokens], batch_size: int, chunk: int = 256
) -> list[np.ndarray]:
    """Negative log-likelihood in nats of every token of every document, in the given order.

    The state is zero at the start of a document and its first token is predicted from `<eos>`. Computed in
    fp32 without dropout; `batch_size` and `chunk` change the speed only.
    """
    scores = [np.zeros(len(document), dtype=np.float64) for document in documents]
    longest_first = sorted(range(len(documents)), key=lambda i: -len(documents[i]))
    for start in range(0, len(documents), batch_size):
        batch = longest_first[start : start + batch_size]
        _score_batch(model, [documents[i] for i in batch], [scores[i] for i in batch], chunk)
    return scores


def _score_batch(model: RecurrentLM, documents: list[Tokens], scores: list[np.ndarray], chunk: int) -> None:
    """Fill `scores`; the documents come longest first."""
    lengths = [len(document) for document in documents]
    state = model.initial_state(len(documents))
    previous = np.full(len(documents), EOS, dtype=np.int64)
    for begin in range(0, lengths[0], chunk):
        active = sum(length > begin for length in lengths)
        widths = [min(chunk, length - begin) for length in lengths[:active]]
        targets_BT = np.zeros((active, widths[0]), dtype=np.int64)
        for row, width in enumerate(widths):
            targets_BT[row, :width] = documents[row][begin : begin + width]
        inputs_BT = np.concatenate([previous[:active, None], targets_BT[:, :-1]], axis=1)
        previous = targets_BT[:, -1]  # padding where a document has ended, which then is not active any more
        real_BT = np.arange(widths[0]) < np.array(widths)[:, None]

        state = [tuple(part_BH[:active] for part_BH in parts) for parts in state]
        device = model.softmax_bias_V.device
        hidden_BTH, state = model(torch.from_numpy(inputs_BT).to(device), state)
        mask = torch.from_numpy(real_BT).to(device)
        nll_N = _nll(model, hidden_BTH[mask], torch.from_numpy(targets_BT).to(device)[mask]).cpu().numpy()
        ends = np.cumsum(widths)
        for row, (width, end) in enumerate(zip(widths, ends, strict=True)):
            scores[row][begin : begin + width] = nll_N[end - width : end]


def _nll(model: RecurrentLM, hidden_NH: Tensor, targets_N: Tensor) -> Tensor:
    """Negative log-likelihoods (N), float64, in blocks of rows."""
    rows = max(1, BLOCK_ELEMENTS // model.vocab_size)
    blocks = []
    for hidden_BH, targets_B in zip(torch.split(hidden_NH, rows), torch.split(targets_N, rows), strict=True):
        logits_BV = model.logits(hidden_BH)
        chosen_B = logits_BV.gather(1, targets_B[:, None])[:, 0]
        blocks.append((logits_BV.logsumexp(1) - chosen_B).double())
    return torch.cat(blocks)
