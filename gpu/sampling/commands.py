"""The command `python -m gpu generate`."""

import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from refimpl.cli import path
from refimpl.generate import PROMPT_FILE, read_prompt
from refimpl.interop import load_folder
from refimpl.weights import PRETRAINED

from ..parallel.launch import Device, check_device, optional

DEMO_WEIGHTS = Path("runs/demo/weights.safetensors")

Prompts = optional(
    list[str], "texts to continue; with --state by default none", parameter=typer.Argument, metavar="PROMPT..."
)
Weights = optional(
    Path,
    "file or folder of a RetNet: of a run, or as found on a hub; by default that of runs/demo, else the model that ships",
    parser=path,
)
TopK = optional(int, "draw from the k likeliest tokens; by default from all", min=1)
TopP = optional(float, "draw from the likeliest tokens that reach this probability; by default from all")
PromptFiles = optional(
    list[Path],
    f"{PROMPT_FILE}; may be given again; by default none",
    "--prompt-file",
    parser=path,
)
StateFile = optional(Path, "file that --save-state wrote, to go on from; by default none", parser=path)
Replay = optional(
    int,
    "write states every so many tokens only, and keep keys and values until then, for the same text; by default at every "
    "token, with --draft every 16",
    min=1,
)
Draft = optional(
    str,
    "what proposes tokens, which the model reads several at once, for text of the same distribution: a smaller model over the "
    "same tokens, its file or folder, or ngram, what followed the last tokens where they stood before; by default nothing",
    metavar="RUN|ngram",
)
NewStateFile = optional(Path, "file for the state after PROMPT, of one size; by default none", parser=path)


def generate(
    prompts: Prompts = None,
    prompt_file: PromptFiles = None,
    weights: Weights = None,
    tokens: Annotated[int, typer.Option(min=0, help="number of tokens to write; 0 only reads PROMPT")] = 400,
    temperature: Annotated[
        float, typer.Option(min=0.0, help="what logits are divided by; 0 takes the likeliest token")
    ] = 0.7,
    top_k: TopK = None,
    top_p: TopP = None,
    seed: Annotated[int, typer.Option(min=0, help="seed of the draws; the same one writes the same text")] = 0,
    state: StateFile = None,
    save_state: NewStateFile = None,
    replay: Replay = None,
    draft: Draft = None,
    draft_tokens: Annotated[int, typer.Option(min=1, help="number of tokens that --draft proposes at once")] = 4,
    ids: Annotated[bool, typer.Option("--ids", help="PROMPT and what is written are ids of tokens")] = False,
    stream: Annotated[bool, typer.Option(help="print the text as it comes; for one PROMPT")] = False,
    device: Device = None,
):
    """Continue each PROMPT with a trained model, in the recurrent form."""
    import torch

    from ..models.pickles import unpickle
    from ..models.retnet import RetNet
    from .generate import check_drawing, prefill
    from .prompt_cache import load_past, save_past
    from .speculative import ModelDraft, NgramDraft, check_vocabulary
    from .vocabulary import Ids, vocabulary_of

    sampling = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
    check_drawing(tokens, **sampling, replay=replay, drafted=draft_tokens if draft else None)
    device = check_device(device)
    prompts = [*(prompts or []), *map(read_prompt, prompt_file or [])] or [""]
    if not state and "" in prompts:
        raise ValueError("prompt must hold at least one character, got ''; give one, or --prompt-file")
    if stream and len(prompts) > 1:
        raise ValueError(f"stream must go with one prompt, got {len(prompts)}")
    if weights is None:
        weights = DEMO_WEIGHTS if DEMO_WEIGHTS.exists() else PRETRAINED
    drafting = None if draft in (None, "ngram") else path(draft)
    if drafting and state:
        raise ValueError(f"draft must be ngram with --state, which is of one model, got {draft!r}")
    files = (("weights", weights, "train"), ("draft", drafting, "train"), ("state", state, "generate --save-state"))
    for name, file, writer in files:
        if file is not None and not file.exists():
            raise FileNotFoundError(f"{name}: there is no file {str(file)!r}; python -m gpu {writer} writes one")

    def model_of(name, file):
        params, config = _loaded(name, file, unpickle)
        return RetNet.holding(params, config, device).float()  # half precision is for storing

    model = model_of("weights", weights)
    config = model.config
    vocabulary = Ids() if ids else vocabulary_of(weights, config.vocab_size)
    past = load_past(state, model) if state else None
    read = [torch.from_numpy(vocabulary.encode(prompt)).to(device) for prompt in prompts]
    if past and len(past.logits) not in (1, len(prompts)):
        raise ValueError(f"state must be of one prompt or of {len(prompts)}, as there are here, got {len(past.logits)}")
    past = prefill(model, read, past)
    if save_state:
        save_past(save_state, past, model)
    if drafting:
        small = model_of("draft", drafting)
        check_vocabulary(small, config.vocab_size)
        sampling["draft"] = ModelDraft(small, prefill(small, read), draft_tokens)
    elif draft:
        sampling["draft"] = NgramDraft(read, draft_tokens)
    pieces = vocabulary.stream(model, past, tokens, read, replay=replay, **sampling)
    if stream:
        print(prompts[0], end="", flush=True)
        for (piece,) in pieces:
            print(piece, end="", flush=True)
        print()
    else:
        texts = ("".join(row) for row in zip(*pieces, strict=True))
        print("\n\n".join(prompt + text for prompt, text in zip(prompts, texts, strict=True)))
    if draft and sampling["draft"].tally.calls:
        print(f"draft: {sampling['draft'].tally}", file=sys.stderr)  # the text stays alone on standard output


def _loaded(name, file, unpickle):
    """`load_folder` in the words of the options: its path is --weights, its other arguments stand in a config.json."""
    try:
        return load_folder(file, unpickle=unpickle)
    except ValueError as error:
        message = re.sub(r"^path\b", name, f"{error}")
        if "must be given" in message:
            message = (
                f"{name} must come with a config.json beside them that says what they do not show (torchscale's: "
                f"activation_fn, layernorm_eps, no_scale_embedding, decoder_retention_heads; flash-linear-attention's: "
                f"norm_eps, num_heads): {message}"
            )
        raise ValueError(message) from None
