"""How much of each prompt a real vLLM takes from its prefix cache, by the prompt's layout.

One conversation of 200 turns with tool calls, core-memory edits and page-ins (`prefix_conversation.py`) is laid out in
four ways (`prefix_layouts.py`): as agentmem does, as MemGPT did, with recalled memories in the system prompt, and with
page-ins kept in the queue. The same page-ins stand in all. One real engine serves every prompt (one token is
generated); the layouts take turns step by step, each under a salt of its own, so that none gains from another's blocks.
The model is a tiny random Llama: token counts and cache hits do not depend on weights, and times are compared as ratios
only. Replies are the script's, so their tokens are new to the engine at the next turn in every layout.

Needs vLLM (see .ci/vllm). `missed blocks`: whole blocks that a prompt shares with the request before it in the same
layout and that were no hit. `without tail and epochs`: the volatile tail's tokens and the requests that open an epoch
are left out. `new tokens`: what is neither shared nor the tail, a request.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentmem.encoding import Encoding, shared_prefix
from agentmem.types import ChatMessage, Request, ToolSpec
from benchmarks import machine
from benchmarks.prefix_conversation import Step, record
from benchmarks.prefix_layouts import InSystem, Kept, MemGPT, Tail

SHARE_GOAL, PREFILL_GOAL = 0.85, 0.25


@dataclass(slots=True)
class Arm:
    """A layout and what its requests cost."""

    layout: Tail
    last: Encoding | None = None
    prompt: int = 0
    cached: int = 0
    missed: int = 0
    fresh: int = 0
    counted: int = 0
    counted_cached: int = 0
    epochs: int = 0
    first_token_s: list[float] = field(default_factory=list)

    def take(self, encoding: Encoding, tail: int, opens: bool, cached: int, seconds: float, block: int) -> None:
        total = len(encoding)
        shared = shared_prefix(self.last, encoding) if self.last is not None else 0
        self.last = encoding
        self.prompt += total
        self.cached += cached
        self.missed += max(0, min(shared, total - 1) // block - cached // block)
        self.epochs += opens
        self.first_token_s.append(seconds)
        if not opens:
            self.counted += total - tail
            self.counted_cached += min(cached, total - tail)
            self.fresh += max(0, total - tail - shared)

    def row(self, base: Arm) -> dict[str, Any]:
        """One line of the table. `prefill` and `first token` are ratios to the layout of MemGPT."""
        computed = self.prompt - self.cached
        return {
            "layout": self.layout.name,
            "requests": len(self.first_token_s),
            "epochs": self.epochs,
            "prompt tokens": self.prompt,
            "cached, all in %": round(100 * self.cached / self.prompt, 1),
            "cached, without tail and epochs %": round(100 * self.counted_cached / max(1, self.counted), 1),
            "new tokens a request": round(self.fresh / max(1, len(self.first_token_s) - self.epochs), 1),
            "missed blocks": self.missed,
            "prefill / memgpt's": round(computed / max(1, base.prompt - base.cached), 3),
            "first token / memgpt's": round(
                statistics.median(a / b for a, b in zip(self.first_token_s, base.first_token_s, strict=True)), 3
            ),
        }


def tail_tokens(counter: Any, step: Step, messages: tuple[ChatMessage, ...], tools: tuple[ToolSpec, ...]) -> int:
    """Tokens of the volatile part: of a request all but the user's own words in the newest user message."""
    text = "\n".join(t for t in (step.page, step.clock, *step.notes) if t)
    return counter.count(text) + 1 if any(step.said in m.content and step.clock in m.content for m in messages) else 0


def serve(backend: Any, counter: Any, steps: list[Step], window: int) -> list[Arm]:
    """Every step in every layout, the layouts in turn."""
    arms = [Arm(Tail()), Arm(MemGPT()), Arm(InSystem()), Arm(Kept(counter, window - min(256, window // 8)))]
    before: Step | None = None
    block = backend.block_size or 1
    for n, step in enumerate(steps):
        prompts = [(a, a.layout.messages(step), a.layout.opens_epoch(step, before)) for a in arms]
        for arm, messages, opens in prompts[n % len(arms) :] + prompts[: n % len(arms)]:
            tools = step.request.tools
            encoding = counter.encode_prompt(messages, tools)
            request = Request(messages, tools, max_tokens=1, cache_salt=f"{arm.layout.name}")
            start = time.perf_counter()
            (completion,) = backend.generate([request])
            seconds = time.perf_counter() - start
            assert completion.usage.prompt_tokens == len(encoding)
            tail = tail_tokens(counter, step, messages, tools)
            arm.take(encoding, tail, opens, completion.usage.cached_tokens or 0, seconds, block)
        before = step
    return arms


def run(path: Path, window: int, tails: list[int], turns: int, seed: int, **options: Any) -> list[dict[str, Any]]:
    """The tables of one window, on an engine of the model at `path` with vLLM's `options`."""
    from agentmem.backends.vllm_engine import VllmBackend

    backend = VllmBackend(str(path), max_model_len=window, **options)
    found: list[dict[str, Any]] = []
    try:
        for tail in tails:
            steps = record(backend.counter, window=window, tail=tail, turns=turns, seed=seed)
            arms = serve(backend, backend.counter, steps, window)
            base = arms[1]
            rows = [{"window": window, "tail": tail, "block": backend.block_size, **a.row(base)} for a in arms]
            found += rows
            backend.reset_prefix_cache()
    finally:
        backend.close()
    return found


def verdicts(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The goals, for windows of 8k and above."""
    found = []
    for row in rows:
        if row["layout"] == "agentmem" and row["window"] >= 8000:
            where = f"window {row['window']}, tail {row['tail']}"
            share, prefill = row["cached, without tail and epochs %"], row["prefill / memgpt's"]
            found.append({"where": where, "goal": "every shared whole block is a hit", "measured": row["missed blocks"],
                          "met": row["missed blocks"] == 0})  # fmt: skip
            found.append({"where": where, "goal": f"at least {SHARE_GOAL:.0%} cached", "measured": share,
                          "met": share >= 100 * SHARE_GOAL})  # fmt: skip
            found.append({"where": where, "goal": f"at most {PREFILL_GOAL} of memgpt's prefill", "measured": prefill,
                          "met": prefill <= PREFILL_GOAL})  # fmt: skip
    return found


def main() -> None:
    parser = machine.parser(__doc__)
    parser.add_argument("--windows", type=int, nargs="+", default=[2048, 8192, 32768], help="tokens (2048 8192 32768)")
    parser.add_argument("--tails", type=int, nargs="+", default=[256, 1024, 2048], help="most paged in (256 1024 2048)")
    parser.add_argument("--turns", type=int, default=200, help="of the conversation (200)")
    parser.add_argument("--cache-gib", type=float, default=4.0, help="of the engine's cache (4)")
    parser.add_argument("--out", type=Path, help="a folder for prefix_reuse.json")
    args = parser.parse_args()
    from tests.models.tiny import random_model

    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for window in args.windows:
            # A tail must leave the queue some room: at most a quarter of the window.
            tails = [t for t in args.tails if t <= window // 4]
            path = random_model(Path(folder) / f"random{window}", window=window)
            options: dict[str, Any] = {"kv_cache_memory_bytes": int(args.cache_gib * 2**30), "max_num_seqs": 4}
            rows += run(path, window, tails, args.turns, args.seed, enforce_eager=True, dtype="float32", **options)
    tables = {"layouts": rows, "goals": verdicts(rows)}
    result = machine.show_tables(args, tables, note=f"seed {args.seed}, {args.turns} turns", turns=args.turns)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "prefix_reuse.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
