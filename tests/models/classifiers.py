"""Tiny token classifiers of the two families that LLMLingua-2 knows, made here: BERT with WordPiece, XLM-RoBERTa with
Unigram. Never trained: what they keep is nonsense, and the same each time. Other versions of transformers load them.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.models.tiny import _TEXT, _once, _versions

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PLACES = 520
_WORDS = 700


def bert(path: Path) -> Path:
    """A BertForTokenClassification over two labels, saved in the folder `path`."""
    return _once(path, {"kind": "bert classifier", **_versions()}, lambda target: _save(target, "bert"))


def xlmr(path: Path) -> Path:
    """An XLMRobertaForTokenClassification over two labels, saved in the folder `path`."""
    return _once(path, {"kind": "xlmr classifier", **_versions()}, lambda target: _save(target, "xlmr"))


def _save(target: Path, kind: str) -> None:
    import torch
    from transformers import (
        BertConfig,
        BertForTokenClassification,
        PreTrainedTokenizerFast,
        XLMRobertaConfig,
        XLMRobertaForTokenClassification,
    )

    core, special = _wordpiece() if kind == "bert" else _unigram()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, clean_up_tokenization_spaces=False, **special)
    sizes: dict[str, Any] = {
        "vocab_size": core.get_vocab_size(),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": PLACES,
        "pad_token_id": tokenizer.pad_token_id,
        "num_labels": 2,
        # Wide enough that words differ in how likely they are.
        "initializer_range": 0.5,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network: Any
        if kind == "bert":
            network = BertForTokenClassification(BertConfig(**sizes))
        else:
            network = XLMRobertaForTokenClassification(XLMRobertaConfig(type_vocab_size=1, **sizes))
    network.to(torch.float32).save_pretrained(target)
    tokenizer.model_max_length = PLACES
    tokenizer.save_pretrained(target)
    # The class's name in transformers 5 is one that other versions do not know; this one they all do.
    settings = target / "tokenizer_config.json"
    values = json.loads(settings.read_text(encoding="utf-8"))
    values["tokenizer_class"] = "PreTrainedTokenizerFast"
    settings.write_text(json.dumps(values, ensure_ascii=False, indent=2), encoding="utf-8")


def _pieces() -> tuple[list[str], list[str]]:
    """The most frequent words of the text, and pieces of words: its letters, and pairs of them."""
    text = _TEXT.read_text(encoding="utf-8")
    words = Counter(re.findall(r"\w+", text))
    pairs = Counter(w[n : n + 2] for w in words for n in range(len(w) - 1))
    letters = sorted(set(text) - set(" \n\t") | set("0123456789.,:;!?\"'`-{}[]()"))
    frequent = [w for w, _ in sorted(words.items(), key=lambda x: (-x[1], x[0]))[:_WORDS] if len(w) > 1]
    return frequent, letters + [p for p, _ in sorted(pairs.items(), key=lambda x: (-x[1], x[0]))[:200]]


def _wordpiece() -> tuple[Tokenizer, dict[str, str]]:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    words, parts = _pieces()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    known = list(dict.fromkeys([*special, *words, *parts, *(f"##{p}" for p in parts)]))
    core = Tokenizer(models.WordPiece({t: n for n, t in enumerate(known)}, unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece(prefix="##")
    core.add_special_tokens(special)
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return core, dict(zip(names, special, strict=True))


def _unigram() -> tuple[Tokenizer, dict[str, str]]:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    words, parts = _pieces()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    pieces = [f"▁{w}" for w in words] + ["▁"] + [f"▁{p}" for p in parts] + parts
    known = [*special, *dict.fromkeys(pieces), "<mask>"]
    scores = [(t, 0.0 if t in special else -2.0 - 0.01 * n) for n, t in enumerate(known)]
    core = Tokenizer(models.Unigram(scores, unk_id=3))
    core.normalizer = normalizers.NFKC()
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    core.add_special_tokens([*special, "<mask>"])
    return core, {
        "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>",
        "sep_token": "</s>", "mask_token": "<mask>",
    }  # fmt: skip
