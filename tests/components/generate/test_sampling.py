import math
import random

import pytest
import torch

from components.errors import UserError
from components.generate.sampling import generate
from components.model.config import ModelConfig
from components.model.recurrent import CELLS, RecurrentLM
from components.model.scoring import score_documents
from components.vocab.tokenizer import EOS, UNK

VOCABULARY = 40


def make_model(cell: str = "lstm", seed: int = 3) -> RecurrentLM:
    config = ModelConfig(cell=cell, layers=2, embedding_size=8, hidden_size=12, dropout=0.5)
    model = RecurrentLM(config, VOCABULARY, seed=seed)
    for parameter in model.parameters():
        parameter.data.mul_(5)
    return model


def make_prompts(count: int = 9, longest: int = 12) -> list[list[int]]:
    rng = random.Random(4)
    return [[rng.randrange(VOCABULARY) for _ in range(rng.randint(0, longest))] for _ in range(count)]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("options", [{"temperature": 0}, {"temperature": 1.3}, {"temperature": 0.7, "top_k": 3}])
def test_a_batch_equals_one_prompt_at_a_time(cell, options):
    model, prompts = make_model(cell), make_prompts()
    together = generate(model, prompts, 15, seed=100, **options)
    alone = [generate(model, [prompt], 15, seed=100 + i, **options)[0] for i, prompt in enumerate(prompts)]
    assert together == alone
    assert all(len(tokens) == 15 for tokens in together)
    assert len({tuple(tokens) for tokens in together}) > 1


def test_greedy_takes_the_token_that_scoring_finds_likeliest():
    model, prompt = make_model(), [5, 9, 2, 30]
    made = generate(model, [prompt], 6, temperature=0)[0]
    for end in range(6):
        known = [*prompt, *made[:end]]
        losses = {
            token: score_documents(model, [[*known, token]], 1)[0][-1] for token in range(VOCABULARY) if token != UNK
        }
        assert min(losses, key=losses.__getitem__) == made[end]


def test_an_empty_prompt_starts_after_an_eos():
    model = make_model()
    first = generate(model, [[]], 1, temperature=0)[0][0]
    hidden_BTH, _ = model(torch.tensor([[EOS]]), model.initial_state(1))
    logits_V = model.logits(hidden_BTH[0, -1])
    logits_V[UNK] = -torch.inf
    assert first == int(logits_V.argmax())


@pytest.mark.parametrize("temperature", [0, 1.0])
def test_unk_is_never_made_however_likely(temperature):
    model = make_model()
    model.softmax_bias_V.data[UNK] = 1e4
    made = generate(model, [[]] * 20, 20, temperature=temperature)
    assert all(UNK not in tokens for tokens in made)


def test_samples_follow_the_distribution_that_top_k_leaves():
    model, count = make_model(), 4000
    hidden_BTH, _ = model(torch.tensor([[EOS, 7]]), model.initial_state(1))
    logits_V = model.logits(hidden_BTH[0, -1]).double() / 1.5
    logits_V[UNK] = -torch.inf
    kept = logits_V.topk(4)
    expected = dict(zip(kept.indices.tolist(), torch.softmax(kept.values, 0).tolist(), strict=True))
    made = [tokens[0] for tokens in generate(model, [[7]] * count, 1, temperature=1.5, top_k=4)]
    assert set(made) == set(expected)
    for token, probability in expected.items():
        assert made.count(token) / count == pytest.approx(probability, abs=0.03)


def test_the_seed_decides_a_sample():
    model = make_model()
    once, again, other = (generate(model, [[3]], 20, seed=seed) for seed in (1, 1, 2))
    assert once == again != other


def test_the_largest_seed_serves_several_prompts():
    assert len(generate(make_model(), [[3], [4]], 2, seed=2**63 - 1)) == 2


def test_nothing_to_do_is_done():
    assert generate(make_model(), [], 5) == []
    assert generate(make_model(), [[3], [4]], 0) == [[], []]


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1.0},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_k": 0},
        {"max_tokens": -1},
        {"seed": -1},
        {"seed": 2**63},
    ],
)
def test_a_senseless_option_is_named(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        generate(make_model(), [[3]], **{"max_tokens": 5, **wrong})
