"""What the package llmlingua gives for some texts, as JSON: run in two environments, it must be the same bytes.

    python tests/compressors/reference_llmlingua.py plain MODELS     the package as it is, on transformers 4.47.1
    python -m tests.compressors.reference_llmlingua adapted MODELS   through agentmem's adapter

MODELS is a folder with the models `causal`, `bert-base-multilingual-cased` and `xlm-roberta-large`. The plain
environment needs no agentmem: only the tokenizer that the package would download is replaced, in this process.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

SENTENCES = (
    "Well, so I was really thinking about it for quite a while, you know.",
    "Anna is no longer vegetarian since May 2023, and she moved from Porto to Lisbon.",
    'The invoice INV-2041 over 310.50 euros was not paid; she said "never again" to the landlord!',
    "Did we talk about this and that for the whole afternoon?",
    "Übrigens war das Wetter gestern wirklich sehr schön, und wir haben lange geredet.",
    "我昨天不再吃素了。今天去里斯本看了新房子。",
    "We went to the beach 🏖️, and it was not cold 🥶 at all.",
    "```python\ndef f(x):\n    return x ** 2\n```",
)
ASCII = [s for s in SENTENCES if s.isascii()]
LONG = " ".join(f"{s} Entry {n}." for n in range(9) for s in ASCII)
DOCUMENTS = [" ".join(f"{s} Part {n}." for s in ASCII[n % 3 :]) for n in range(6)]
MIXED = "\n".join(f"{s} {n}" for n in range(12) for s in SENTENCES)
QUESTION = "Where does Anna live, and what does she eat?"
RATES = (0.2, 0.5, 0.8)


class Count:
    """Stands where the package has OpenAI's tokenizer: four bytes are a token."""

    def encode(self, text: str) -> range:
        return range(max(1, -(-len(text.replace("▁", "").encode("utf-8")) // 4)))


def outputs(causal: Any, classifiers: dict[str, Any]) -> dict[str, str]:
    """The package's texts, by what was asked."""
    found = {}
    for rate in RATES:
        for name, contexts in (("long", [LONG]), ("documents", DOCUMENTS), ("short", [ASCII[1]])):
            found[f"llmlingua {name} {rate}"] = causal.compress_prompt(contexts, rate=rate)["compressed_prompt"]
        found[f"llmlingua segments {rate}"] = causal.compress_prompt([LONG], rate=rate, iterative_size=64)[
            "compressed_prompt"
        ]
        for order, spread, compare in (("original", 0.3, True), ("sort", 0.3, True), ("original", 0.0, False)):
            found[f"longllmlingua {order} {spread} {compare} {rate}"] = causal.compress_prompt(
                DOCUMENTS, question=QUESTION, rate=rate, rank_method="longllmlingua",
                condition_in_question="after_condition" if compare else "after", reorder_context=order,
                dynamic_context_compression_ratio=spread, condition_compare=compare, concate_question=False,
            )["compressed_prompt"]  # fmt: skip
        for family, package in classifiers.items():
            for name, contexts in (("long", [LONG]), ("documents", DOCUMENTS), ("mixed", [MIXED])):
                for digits in (False, True):
                    for level in (False, True):
                        said = package.compress_prompt(
                            contexts, rate=rate, force_reserve_digit=digits, use_context_level_filter=level,
                            return_word_label=True,
                        )  # fmt: skip
                        key = f"llmlingua2 {family} {name} {digits} {level} {rate}"
                        found[key] = said["compressed_prompt"] + "\n---\n" + said["fn_labeled_original_prompt"]
    return found


def plain(models: Path) -> dict[str, str]:
    import llmlingua.prompt_compressor as module

    module.tiktoken.encoding_for_model = lambda name: Count()
    make = module.PromptCompressor
    return outputs(
        make(str(models / "causal"), device_map="cpu", model_config={}),
        {
            name: make(str(models / name), device_map="cpu", model_config={}, use_llmlingua2=True)
            for name in ("bert-base-multilingual-cased", "xlm-roberta-large")
        },
    )


def adapted(models: Path) -> dict[str, str]:
    from agentmem.compressors.llmlingua import LLMLinguaCompressor
    from agentmem.compressors.token_classifier import load_classifier

    causal = LLMLinguaCompressor(str(models / "causal"))._loaded()
    classifiers = {
        name: load_classifier(str(models / name), name="llmlingua2", dtype="auto", device="cpu")
        for name in ("bert-base-multilingual-cased", "xlm-roberta-large")
    }
    for package in (causal, *classifiers.values()):
        package.oai_tokenizer = Count()
    return outputs(causal, classifiers)


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    result = {"plain": plain, "adapted": adapted}[sys.argv[1]](Path(sys.argv[2]))
    json.dump(result, sys.stdout, ensure_ascii=True, indent=0)
