"""The finished model as a Hugging Face folder, and what anyone who runs it should get (`expected.json`)."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from .net import Llama, Shape
from .ranges import measure
from .tokenizer import BOS, EOS, SPECIAL
from .training import Outcome

PROMPTS = (
    "Once upon a time",
    "One day, a little",
    "Mia went to the",
    "The brave dragon",
    "Tell me a story about a robot.",
    "Ben was afraid of the dark",
)
_CHAT = Path(__file__).resolve().parents[2] / "models" / "stories" / "chat_template.jinja"
_MOST = 224  # more than the longest story needs
_PLACES = 6  # decimals kept of a logit


def config_of(shape: Shape) -> dict[str, Any]:
    """config.json as transformers writes it for a LlamaForCausalLM."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.width,
        "intermediate_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.key_heads,
        "head_dim": shape.head_width,
        "hidden_act": "silu",
        "max_position_embeddings": shape.context,
        "rms_norm_eps": shape.eps,
        "rope_theta": shape.theta,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "initializer_range": 0.02,
        "use_cache": True,
        "torch_dtype": "float16",
    }


def write_folder(out: Path, model: Llama, tokenizer: Tokenizer, provenance: dict[str, Any], outcome: Outcome) -> None:
    """Write everything below `out`. The expectations come from the float16 weights as saved, in float64."""
    out.mkdir(parents=True, exist_ok=True)
    shape = model.shape
    _write_json(out / "config.json", config_of(shape))
    _write_json(out / "generation_config.json", {"bos_token_id": BOS, "eos_token_id": EOS, "do_sample": False})
    _write_json(
        out / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": SPECIAL[BOS],
            "eos_token": SPECIAL[EOS],
            "unk_token": SPECIAL[0],
            "clean_up_tokenization_spaces": False,
            "model_max_length": shape.context,
        },
    )
    tokenizer.save(str(out / "tokenizer.json"))
    if not (out / _CHAT.name).exists():
        shutil.copyfile(_CHAT, out / _CHAT.name)
    weights = {name: weight.detach().half().contiguous() for name, weight in model.state_dict().items()}
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)  # safetensors makes it readable by its owner alone

    saved = read_model(out, shape)
    stories = sampled(saved, tokenizer, PROMPTS, seed=1)
    expected = _expected(saved, tokenizer)
    expected["files_sha256"] = {
        name: sha256(out / name) for name in ("model.safetensors", "tokenizer.json", "config.json")
    }
    expected["activations"] = activations(saved, tokenizer, expected, stories)
    _write_json(out / "expected.json", expected)
    told = {**provenance, **{key: _round(value) for key, value in asdict(outcome).items()}}
    told["parameters"] = sum(weight.numel() for weight in weights.values())
    _write_json(out / "provenance.json", told)
    (out / "README.md").write_text(_readme(told, expected, stories), encoding="utf-8")


def read_model(folder: Path, shape: Shape) -> Llama:
    """The saved weights, in float64."""
    model = Llama(shape).double()
    model.load_state_dict({name: weight.double() for name, weight in load_file(folder / "model.safetensors").items()})
    return model.eval()


def sampled(model: Llama, tokenizer: Tokenizer, prompts: Sequence[str], seed: int) -> list[tuple[str, str, bool]]:
    """(prompt, what follows at temperature 0.7, whether the model ended it) for each of `prompts`."""
    generator = torch.Generator().manual_seed(seed)
    told = []
    for prompt in prompts:
        ids = model.sample(tokenizer.encode(prompt).ids, _MOST, EOS, 0.7, generator)
        told.append((prompt, tokenizer.decode(ids), ids[-1] == EOS))
    return told


def activations(
    model: Llama, tokenizer: Tokenizer, expected: dict[str, Any], stories: Sequence[tuple[str, str, bool]]
) -> dict[str, object]:
    """Ranges over the expected texts and the sampled ones."""
    rows = [case["prompt_ids"] + case["greedy_new_ids"] for case in expected["cases"]]
    rows += [tokenizer.encode(prompt + told).ids for prompt, told, _ in stories]
    return measure(model, rows)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _expected(model: Llama, tokenizer: Tokenizer) -> dict[str, Any]:
    cases = []
    for prompt in PROMPTS:
        ids = tokenizer.encode(prompt).ids
        new, logits = model.greedy(ids, _MOST, EOS)
        best = logits.topk(2, dim=-1).values
        margins = (best[:, 0] - best[:, 1]).tolist()
        cases.append(
            {
                "prompt": prompt,
                "prompt_ids": ids,
                "greedy_new_ids": new,
                "greedy_text": tokenizer.decode(new),
                "ended": new[-1] == EOS,
                "margins": [round(margin, _PLACES) for margin in margins],
                "smallest_margin": {"step": margins.index(min(margins)), "margin": round(min(margins), _PLACES)},
                "first_step_logits": [round(logit, _PLACES) for logit in logits[0].tolist()],
            }
        )
    return {"dtype": "float64 arithmetic on the float16 weights as saved", "max_new_tokens": _MOST, "cases": cases}


def _readme(told: dict[str, Any], expected: dict[str, Any], stories: Sequence[tuple[str, str, bool]]) -> str:
    greedy = expected["cases"][0]
    samples = "\n\n".join(f"> **{prompt}**{text}".replace("\n", "\n> ") for prompt, text, _ in stories)
    return f"""# stories

A Llama-format model of {told["parameters"]:,} parameters that writes short children's stories and ends them. It is
the model behind Tacit's first command: small enough to ship, real enough to show what a private answer looks like.

## How it was made

`scripts/train_demo_model` makes everything: the text comes from a grammar of its own (`scripts/story_model`), no data
set and no other model was used; the tokenizer is a byte-level BPE learned from that text; training is plain PyTorch.

| | |
| --- | --- |
| seed | {told["seed"]} |
| steps, tokens seen | {told["steps"]:,} (ended by {told["ended_by"]}), {told["tokens"]:,} |
| training time | {told["minutes"]:.1f} minutes of processor time on each of {told["threads"]} threads |
| clock time | {told["clock_minutes"]:.1f} minutes, on a machine shared with other work when longer |
| loss, validation loss (nats per token) | {told["loss"]:.3f}, {told["validation_loss"]:.3f} |
| distinct stories among {told["stories_drawn"]:,} drawn | {told["stories_distinct"]:,} |

The grammar makes random choices, so the loss cannot go to zero: most of what is left is which story comes next.

Weights are float16. `expected.json` holds greedy continuations, their margins and first-step logits, computed in
float64 from these weights. The model knows only the small world of its grammar: no questions, no facts.

Licence: Apache-2.0, like the rest of Tacit. `provenance.json` has the same figures for programs.

## Talking with it

`chat_template.jinja` makes one text of a conversation, since that is all this model knows to go on with: what you write, what
it wrote after that, a blank line, what you write next. "Tell me a story about ...", "Write a story about ..." and "Please tell
me a story about ..." begin a new one. It is there so that `tacit chat` works at once; it makes no assistant of a story teller.

## What it writes

Greedy:

> **{greedy["prompt"]}**{greedy["greedy_text"].replace(chr(10), chr(10) + "> ")}

Sampled at temperature 0.7:

{samples}
"""


def _round(value: float | int | str) -> float | int | str:
    return round(value, 4) if isinstance(value, float) else value


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
