"""Fitting a tiny model to dialogues until it knows them by heart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy

from tests.models.tiny import prompt_ids

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    from tests.models.conversations import Dialogue

SURE = 0.95
"""Every token's probability, at least: no engine's rounding changes the text then."""


def fit(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, dialogues: Sequence[Dialogue], *, most: int = 1500
) -> float:
    """Train in place until each token of each answer is at least `SURE`; the lowest probability of one.

    The prompts' common beginning (system text, tools) is run once a step, and the dialogues go on from its keys and
    values. Raises RuntimeError when `most` steps were not enough.
    """
    from transformers import DynamicCache

    prompts = [prompt_ids(tokenizer, m, t) for m, t, _ in dialogues]
    answers = [[*tokenizer.encode(said, add_special_tokens=False), tokenizer.eos_token_id] for _, _, said in dialogues]
    shared = next(n for n, ids in enumerate(zip(*prompts, strict=False)) if len(set(ids)) > 1)
    tails = [p[shared:] + a for p, a in zip(prompts, answers, strict=True)]
    width = max(map(len, tails))
    ids = torch.full((len(tails), width), tokenizer.pad_token_id)
    wanted = torch.full((len(tails), width), -100)
    seen = torch.zeros((len(tails), shared + width), dtype=torch.long)
    seen[:, :shared] = 1
    for n, (tail, answer) in enumerate(zip(tails, answers, strict=True)):
        ids[n, : len(tail)] = torch.tensor(tail)
        wanted[n, len(tail) - len(answer) : len(tail)] = torch.tensor(answer)
        seen[n, shared : shared + len(tail)] = 1
    prefix = torch.tensor([prompts[0][:shared]])
    targets = wanted[:, 1:]
    kept = targets != -100

    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0, betas=(0.9, 0.98))
    lowest = 0.0
    for step in range(most):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1.0, (step + 1) / 20)
        cache = DynamicCache(config=model.config)
        model.model(input_ids=prefix, past_key_values=cache, use_cache=True)
        cache.batch_repeat_interleave(len(tails))
        hidden = model.model(input_ids=ids, attention_mask=seen, past_key_values=cache, use_cache=True)[0]
        logits = model.lm_head(hidden[:, :-1][kept])
        loss = cross_entropy(logits, targets[kept])
        with torch.no_grad():
            sure = logits.softmax(-1).gather(1, targets[kept][:, None])
            lowest = float(sure.min())
        if lowest >= SURE:
            model.eval()
            return lowest
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    raise RuntimeError(f"after {most} steps a token's probability is still {lowest:.3f}")
