"""The recurrent language model: embedding, stacked recurrence, softmax.

tokens_BT ─► embedding ─► dropout ─► layer 1 ─► … ─► layer L ─► dropout ─► hidden_BTH ─► linear ─► logits

p(w_1..w_T) = prod_t p(w_t | w_<t),   p_t = softmax(W_hy h_t + b_y)
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from components.errors import UserError
from components.model.config import ModelConfig

CELLS: dict[str, Callable[..., nn.RNNBase]] = {
    "lstm": nn.LSTM,  # Hochreiter and Schmidhuber 1997, with forget gates (Gers et al. 2000)
    "rnn": nn.RNN,  # Elman 1990: h_t = tanh(W_xh x_t + W_hh h_{t-1} + b_h), b_h the sum of PyTorch's two
    "gru": nn.GRU,  # Cho et al. 2014
}

State = list[tuple[Tensor, ...]]
"""Per layer the tensors (B, units) that the next token needs: (h, c) of an lstm, (h,) of the others."""


class RecurrentLM(nn.Module):
    """A stack of one-layer recurrences, so that dropout is ours and a pure function of a generator."""

    def __init__(self, config: ModelConfig, vocab_size: int, seed: int = 1) -> None:
        """Initial weights depend on `seed` alone. Raises UserError for an unknown cell."""
        super().__init__()
        if config.cell not in CELLS:
            raise UserError(f"model.cell is {config.cell!r} but should be one of {', '.join(CELLS)}")
        self.config = config
        self.vocab_size = vocab_size
        units = [config.hidden_size] * config.layers
        if config.tied:
            units[-1] = config.embedding_size
        widths = [config.embedding_size, *units[:-1]]
        self.embedding = nn.Embedding(vocab_size, config.embedding_size)
        self.layers = nn.ModuleList(
            CELLS[config.cell](width, unit, batch_first=True) for width, unit in zip(widths, units, strict=True)
        )
        self.softmax_VH: nn.Parameter | None = None if config.tied else nn.Parameter(torch.empty(vocab_size, units[-1]))
        self.softmax_bias_V = nn.Parameter(torch.zeros(vocab_size))
        self._initialise(torch.Generator().manual_seed(seed))

    @torch.no_grad()
    def _initialise(self, generator: torch.Generator) -> None:
        """Uniform +-0.1 over the vocabulary, +-1/sqrt(units) in layers; zero biases, open forget gates."""
        self.embedding.weight.uniform_(-0.1, 0.1, generator=generator)
        if self.softmax_VH is not None:
            self.softmax_VH.uniform_(-0.1, 0.1, generator=generator)
        for layer in self._recurrences():
            bound = layer.hidden_size**-0.5
            for name, weight in layer.named_parameters():
                if name.startswith("weight"):
                    weight.uniform_(-bound, bound, generator=generator)
                else:
                    weight.zero_()
            if self.config.cell == "lstm":  # Jozefowicz et al. 2015; the gates lie in the order i, f, g, o
                layer.get_parameter("bias_ih_l0").chunk(4)[1].fill_(1.0)

    @torch.no_grad()
    def init_output_bias(self, counts: Sequence[int] | np.ndarray) -> None:
        """Start from the unigram model: the bias becomes the centred log of the add-one-smoothed `counts`.

        `counts` has V entries. The first steps then need not learn how frequent words are; measured, this
        saves an epoch and keeps large learning rates from diverging.
        """
        log_V = torch.log(torch.as_tensor(np.asarray(counts), dtype=torch.float64) + 1)
        assert log_V.shape == self.softmax_bias_V.shape, (log_V.shape, self.vocab_size)
        self.softmax_bias_V.copy_(log_V - log_V.mean())

    def initial_state(self, batch: int, dtype: torch.dtype = torch.float32) -> State:
        """Zeros for `batch` streams. The dtype is the arithmetic that `forward` will use."""
        parts = 2 if self.config.cell == "lstm" else 1
        device = self.softmax_bias_V.device
        return [
            tuple(torch.zeros(batch, layer.hidden_size, dtype=dtype, device=device) for _ in range(parts))
            for layer in self._recurrences()
        ]

    def forward(
        self, tokens_BT: Tensor, state: State, generator: torch.Generator | None = None
    ) -> tuple[Tensor, State]:
        """Run over tokens: (hidden_BTH, the state after the last one).

        A bfloat16 state makes the recurrence run in bfloat16; the weights stay fp32. Dropout is on where a
        generator is given, which lives on the model's device.
        """
        dtype = state[0][0].dtype
        after: State = []
        x = self._dropout(self.embedding(tokens_BT).to(dtype), generator)
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            for layer, before in zip(self._recurrences(), state, strict=True):
                hx = tuple(part_BH.unsqueeze(0) for part_BH in before)
                x, hx = layer(x, hx if len(hx) == 2 else hx[0])
                after.append(tuple(part.squeeze(0) for part in (hx if isinstance(hx, tuple) else (hx,))))
                x = self._dropout(x, generator)
        return x, after

    @property
    def output_weights(self) -> tuple[Tensor, Tensor]:
        """The softmax layer: weight_VH, bias_V."""
        weight_VH = self.embedding.weight if self.softmax_VH is None else self.softmax_VH
        return weight_VH, self.softmax_bias_V

    def logits(self, hidden: Tensor) -> Tensor:
        """Unnormalised log-probabilities (..., V) of the next token from hidden (..., H)."""
        return nn.functional.linear(hidden, *self.output_weights)

    @property
    def parameter_count(self) -> int:
        """Trained numbers; tied weights count once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def _dropout(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        if generator is None or self.config.dropout == 0:
            return x
        keep = 1 - self.config.dropout
        return x * torch.empty_like(x).bernoulli_(keep, generator=generator).div_(keep)

    def _recurrences(self) -> list[nn.RNNBase]:
        return [layer for layer in self.layers if isinstance(layer, nn.RNNBase)]
