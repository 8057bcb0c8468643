"""Sampling text: the prompt is read chunkwise, then each new token costs one recurrent step."""

from typing import NamedTuple

import torch

from refimpl import decode_step, retention_chunkwise
from refimpl.checks import check_integer


class Sample(NamedTuple):
    """tokens (B, T + N): the prompt and what follows; logits (B, N, vocab): what each new token was drawn from."""

    tokens: torch.Tensor
    logits: torch.Tensor


@torch.no_grad()
def generate(model, prompt, new_tokens, *, temperature=1.0, seed=0):
    """Continue a batch of prompts of one length.

    Args:
        model: a `gpu.module.RetNet`.
        prompt: (B, T) int64 on the model's device, T at least 1.
        new_tokens: N, how many to draw, at least 1.
        temperature: logits are divided by it; 0 takes the likeliest token.
        seed: of the draws.

    Raises:
        TypeError, ValueError: an argument is not as above.
    """
    check_integer("new_tokens", new_tokens, minimum=1)
    if not (temperature == 0 or 1e-6 <= temperature < float("inf")):
        raise ValueError(f"temperature must be 0 or from 1e-6 to finite, got {temperature}")
    if prompt.ndim != 2 or prompt.shape[1] == 0:
        raise ValueError(f"prompt must have shape (batch, time) with time at least 1, got {tuple(prompt.shape)}")
    generator = torch.Generator(prompt.device).manual_seed(seed)
    params = model.params()
    logits, state = model(prompt, retention=retention_chunkwise)
    tokens, seen = [prompt], [logits[:, -1]]
    for n in range(new_tokens):
        tokens.append(_draw(seen[-1], temperature, generator)[:, None])
        if n + 1 < new_tokens:
            logits, state = decode_step(params, tokens[-1][:, 0], model.config, state)
            seen.append(logits)
    return Sample(torch.cat(tokens, dim=1), torch.stack(seen, dim=1))


def _draw(logits, temperature, generator):
    if temperature == 0:
        return logits.argmax(dim=-1)
    return torch.multinomial(torch.softmax(logits.double() / temperature, dim=-1), 1, generator=generator)[:, 0]
