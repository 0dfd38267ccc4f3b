"""Continue token sequences, one token at a time, with constant memory: the state is all that is kept."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from components.errors import UserError
from components.model.recurrent import RecurrentLM
from components.vocab.tokenizer import EOS, UNK


@torch.inference_mode()
def generate(
    model: RecurrentLM,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
) -> list[list[int]]:
    """Continue each prompt by exactly `max_tokens` tokens.

    Every prompt is read after an `<eos>`, as a document is when it is scored, so an empty prompt is a free
    start. Prompt i draws from its own random stream, seeded `seed + i`: what the others are does not change
    its continuation. `<unk>` is never generated. `temperature` divides the logits, 0 takes the likeliest
    token; `top_k` keeps only the k likeliest.

    Raises UserError for a negative length, a temperature that is negative or no number, a `top_k` below 1 and a
    seed outside 0 to 2**63-1.
    """
    if max_tokens < 0:
        raise UserError("max_tokens must not be negative")
    if not 0 <= temperature < math.inf:
        raise UserError("temperature must be a number and not negative; 0 takes the likeliest token each time")
    if top_k is not None and top_k < 1:
        raise UserError("top_k must be at least 1, or null for the whole vocabulary")
    if not 0 <= seed < 2**63:
        raise UserError("seed must lie between 0 and 2**63-1")
    if not prompts or max_tokens == 0:
        return [[] for _ in prompts]
    streams = [torch.Generator().manual_seed(seed + i) for i in range(len(prompts))]
    given = [[EOS, *prompt] for prompt in prompts]
    made: list[list[int]] = [[] for _ in prompts]

    state = model.initial_state(len(prompts))
    device = state[0][0].device
    shortest = min(map(len, given))
    tokens_BT = torch.tensor([tokens[:shortest] for tokens in given], device=device)
    # The length that all prompts have goes through in one call; then a row reads its prompt or its output.
    for position in range(shortest, max(map(len, given)) + max_tokens):
        hidden_BTH, state = model(tokens_BT, state)
        logits_BV = model.logits(hidden_BTH[:, -1]).float()
        writes = [len(tokens) <= position < len(tokens) + max_tokens for tokens in given]
        chosen = _choose(logits_BV, writes, streams, temperature, top_k)
        for row, token in enumerate(chosen):
            if writes[row]:
                made[row].append(token)
        following = [given[row][position] if position < len(given[row]) else token for row, token in enumerate(chosen)]
        tokens_BT = torch.tensor(following, device=device)[:, None]
    return made


def _choose(
    logits_BV: Tensor,
    writes: list[bool],
    streams: list[torch.Generator],
    temperature: float,
    top_k: int | None,
) -> list[int]:
    """One token per row; only the streams of rows that write move on."""
    logits_BV[:, UNK] = -torch.inf
    if temperature == 0:
        return _ids(logits_BV.argmax(dim=-1))
    if top_k is not None and top_k < logits_BV.shape[-1]:
        kept = logits_BV.topk(top_k, dim=-1)
        logits_BV = torch.full_like(logits_BV, -torch.inf).scatter(-1, kept.indices, kept.values)
    # The inverse of the cumulative distribution, in double precision and with uniforms from the CPU, so that
    # devices and batches agree. The bound keeps a rounded-up product inside the last token that can be.
    cumulative_BV = torch.softmax(logits_BV.double() / temperature, dim=-1).cumsum(dim=-1)
    total_B1 = cumulative_BV[:, -1:].contiguous()
    uniform_B1 = torch.tensor(
        [[_uniform(stream) if write else 0.0] for stream, write in zip(streams, writes, strict=True)]
    )
    point_B1 = torch.minimum(uniform_B1.to(total_B1) * total_B1, torch.nextafter(total_B1, torch.zeros_like(total_B1)))
    return _ids(torch.searchsorted(cumulative_BV, point_B1, right=True)[:, 0])


def _uniform(stream: torch.Generator) -> float:
    return float(torch.rand((), generator=stream, dtype=torch.float64))


def _ids(tokens_B: Tensor) -> list[int]:
    return [int(token) for token in tokens_B.tolist()]
