"""Tokens that a compressor reads a second, and the package llmlingua beside it on the same texts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from agentmem.compression import CompressionRequest, Part
from agentmem.registry import make_compressor

if TYPE_CHECKING:
    from agentmem.compression import Compressed
    from agentmem.protocols import Compressor, TokenCounter

OF_PACKAGE = ("llmlingua", "longllmlingua", "llmlingua2")


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds by the clock on the wall, and of processors."""
    begun, worked = time.perf_counter(), time.process_time()
    run()
    return 1000 * (time.perf_counter() - begun), 1000 * (time.process_time() - worked)


def speeds(
    specs: Sequence[str], pages: Sequence[tuple[str, Sequence[Part]]], counter: TokenCounter
) -> list[dict[str, Any]]:
    """Tokens read a second, each compressor and the package beside it interleaved, page by page."""
    rows = []
    for spec in (s for s in specs if s != "none"):
        made = make_compressor(spec)
        assert made is not None
        package = _package(spec)
        ours, theirs, read, left = [], [], [], []
        for n, (query, parts) in enumerate([pages[0], *pages]):  # the first once more: models load at first use
            total = sum(counter.count(p.text) for p in parts)
            request = CompressionRequest(tuple(parts), total // 2, counter, query if made.question_aware else "")
            results: list[Compressed | None] = []
            mine = timed(partial(_into, results, made, request))[0]
            other = timed(partial(package, query, parts))[0] if package is not None else 0.0
            if n:
                ours.append(mine)
                theirs.append(other)
                read.append(total)
                left.append(results[0].num_tokens / total if results[0] is not None else 1.0)
        row: dict[str, Any] = {
            "compressor": spec.partition(":")[0], "pages": len(pages), "tokens a page": statistics.mean(read),
            "share left": statistics.mean(left), "ms a page p50": statistics.median(ours),
            "tokens a second": round(1000 * sum(read) / sum(ours)),
        }  # fmt: skip
        if package is not None:
            row["package ms p50"] = statistics.median(theirs)
            row["ours / package"] = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
        rows.append(row)
    return rows


def _into(results: list[Compressed | None], made: Compressor, request: CompressionRequest) -> None:
    results += made.compress([request])


def _package(spec: str) -> Callable[[str, Sequence[Part]], object] | None:
    """The package's own call for a spec, to half of the tokens; None for what is not of the package."""
    kind, _, target = spec.partition(":")
    if kind not in OF_PACKAGE:
        return None
    path = target.partition("?")[0]
    if kind == "llmlingua2":
        from agentmem.compressors.token_classifier import load_classifier

        classifier = load_classifier(path, name=kind, dtype="auto", device="auto")
        return lambda _, parts: classifier.compress_prompt(
            [p.text for p in parts], rate=0.5, use_context_level_filter=False
        )
    from transformers import AutoTokenizer

    from agentmem.compressors.causal_scorer import load
    from agentmem.compressors.llmlingua_package import CausalPackage

    model = load(path, name=kind, dtype="auto", device="auto")
    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    causal = CausalPackage(model.network, tokenizer, model.device, model.window)
    if kind == "llmlingua":
        return lambda _, parts: causal.compress_prompt([p.text for p in parts], rate=0.5)
    return lambda query, parts: causal.compress_prompt(
        [p.text for p in parts], question=query, rate=0.5, rank_method="longllmlingua", reorder_context="original",
        condition_in_question="after_condition", condition_compare=True, concate_question=False,
    )  # fmt: skip
