"""Tiny Llama models and their tokenizer, made here: a random one, and one that knows a few dialogues by heart.

The random model's text is nonsense; its token counts, cache hits, grammars, streams and metrics are real. The scripted
one was fitted to `DIALOGUES` until greedy decoding gives each of them to the letter, through transformers and vLLM
alike. Needs torch, transformers and tokenizers; the dialogues also need agentmem, whose agent wrote their prompts.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast


CHATML = """\
{%- for message in messages %}
{%- if loop.first and (tools or message.role == 'system') %}
{{- '<|im_start|>system\\n' }}
{%- if message.role == 'system' %}{{- message.content }}{%- endif %}
{%- if tools %}
{{- '\\n\\n# Tools\\n\\nYou may call one or more functions.' }}
{{- '\\n\\nTheir signatures are within <tools></tools>:\\n<tools>' }}
{%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{%- endfor %}
{{- '\\n</tools>\\n\\nFor each call, return a JSON object with the name and the arguments:\\n<tool_call>\\n' }}
{{- '{"name": <function-name>, "arguments": <args-json-object>}\\n</tool_call>' }}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- if message.role == 'tool' %}
{{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}
{%- elif not (loop.first and message.role == 'system') %}
{{- '<|im_start|>' + message.role + '\\n' + (message.content or '') }}
{%- for call in message.tool_calls or [] %}
{%- set function = call.function if call.function is defined else call %}
{{- '\\n' if message.content or not loop.first else '' }}
{{- '<tool_call>\\n{"name": "' + function.name + '", "arguments": ' }}
{{- function.arguments if function.arguments is string else function.arguments | tojson }}
{{- '}\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""
"""ChatML, with tools as Hermes and Qwen2.5 have them; each message is rendered apart from the others."""

END, START, PAD = "<|im_end|>", "<|im_start|>", "<|endoftext|>"
TAGS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")
MARKER = "finished.json"
MODELS = os.environ.get("AGENTMEM_TEST_MODELS")
_VOCABULARY = 2048
_TEXT = Path(__file__).with_name("vocabulary.txt")


def __getattr__(name: str) -> Any:
    if name == "DIALOGUES":
        from tests.models.conversations import dialogues

        return dialogues()
    raise AttributeError(name)


def folder(otherwise: Path) -> Path:
    """Where finished models are kept between runs: $AGENTMEM_TEST_MODELS, else `otherwise`."""
    return Path(MODELS) if MODELS else otherwise


def make_tokenizer(template: str = CHATML) -> PreTrainedTokenizerFast:
    """Byte-level BPE over a fixed text: the same each time. Ends a message with `<|im_end|>`, begins with nothing."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY, min_frequency=1, initial_alphabet=alphabet, special_tokens=[PAD, START, END],
        show_progress=False,
    )  # fmt: skip
    core.train_from_iterator(_TEXT.read_text(encoding="utf-8").splitlines(keepends=True), trainer)
    # Ordinary text to a decoder that leaves special tokens out, one token to the model: as in Qwen2.5.
    core.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TAGS])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token=END, pad_token=PAD, clean_up_tokenization_spaces=False
    )
    tokenizer.chat_template = template
    return tokenizer


def random_model(
    path: Path, *, window: int = 8192, template: str = CHATML, hidden: int = 64, layers: int = 2, seed: int = 0
) -> Path:
    """A model that was never trained, saved in the folder `path`. Equal arguments give equal weights."""

    def build(target: Path) -> None:
        tokenizer = make_tokenizer(template)
        model = _llama(tokenizer, window, hidden, layers, seed)
        _save(target, model, tokenizer, window)

    what = {"window": window, "template": template, "hidden": hidden, "layers": layers, "seed": seed}
    return _once(path, {"kind": "random", **what, **_versions()}, build)


def scripted_model(path: Path) -> Path:
    """A model that answers each prompt of `DIALOGUES` with its text, greedily; saved in the folder `path`.

    It is made anew when the prompts changed, which the agent of this code writes. Takes under a minute.
    """
    from tests.models.conversations import WINDOW, dialogues

    known = dialogues()
    texts = [(json.dumps([m, t], ensure_ascii=False), said) for m, t, said in known]

    def build(target: Path) -> None:
        from tests.models.fitting import fit

        tokenizer = make_tokenizer()
        model = _llama(tokenizer, WINDOW, 64, 2, 0)
        fit(model, tokenizer, known)
        _save(target, model, tokenizer, WINDOW)

    return _once(path, {"kind": "scripted", "template": CHATML, "texts": texts, **_versions()}, build)


def prompt_ids(
    tokenizer: PreTrainedTokenizerFast, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]]
) -> list[int]:
    """A prompt as the model reads it, the opening of the reply included. Arguments that are JSON text are parsed."""
    text = tokenizer.apply_chat_template(
        [_parsed(m) for m in messages], tools=list(tools) or None, add_generation_prompt=True, tokenize=False
    )
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids


def _parsed(message: dict[str, Any]) -> dict[str, Any]:
    """As servers do before they render: a call's arguments as an object."""
    calls = [
        {**c, "function": {**c["function"], "arguments": json.loads(c["function"]["arguments"] or "{}")}}
        for c in message.get("tool_calls", ())
    ]
    return {**message, "tool_calls": calls} if calls else message


def _llama(tokenizer: PreTrainedTokenizerFast, window: int, hidden: int, layers: int, seed: int) -> LlamaForCausalLM:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=-(-len(tokenizer) // 64) * 64,
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,
        num_key_value_heads=hidden // 32,
        head_dim=32,
        max_position_embeddings=window,
        # Wide enough that the largest logit stands apart from the next: greedy text is then the same on any engine.
        initializer_range=0.1,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).to(torch.float32)


def _save(target: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, window: int) -> None:
    from transformers import GenerationConfig

    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(target)
    tokenizer.model_max_length = window
    tokenizer.save_pretrained(target)
    # The class's name in transformers 5 is one that other versions do not know; this one they all do.
    settings = target / "tokenizer_config.json"
    values = json.loads(settings.read_text(encoding="utf-8"))
    values["tokenizer_class"] = "PreTrainedTokenizerFast"
    settings.write_text(json.dumps(values, ensure_ascii=False, indent=2), encoding="utf-8")


def _versions() -> dict[str, str]:
    return {"vocabulary": hashlib.sha256(_TEXT.read_bytes()).hexdigest(), "made": "1"}


def _once(path: Path, what: dict[str, Any], build: Callable[[Path], None]) -> Path:
    """`path`, built unless a finished model of the same making is there. Several processes may ask at once."""
    made = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    if _made(path) == made:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    target = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        build(target)
        (target / MARKER).write_text(json.dumps({"sha256": made}), encoding="utf-8")
        if path.exists() and _made(path) != made:
            shutil.rmtree(path)
        if not path.exists():
            target.rename(path)
    finally:
        shutil.rmtree(target, ignore_errors=True)
    return path


def _made(path: Path) -> str:
    marker = path / MARKER
    return str(json.loads(marker.read_text(encoding="utf-8"))["sha256"]) if marker.exists() else ""
