"""Prefill tokens of reflection jobs by the order of their requests, at a prefix cache that holds a tenth of the blocks.

200 agents' jobs of two strategies: all of one strategy share its instruction, and an agent asks several things of each
of its materials. The orders: *arrival* (agents come to their questions at random, as requests of a pipeline or of many
workers do), *shuffled*, *collected* (agent by agent, strategy by strategy, as one `reflect` over all agents collects
its questions), *text* (sorted by the prompts' text), *ours* (`agentmem.reflection.batch_order`), and *ours, leads
first* (in each batch the first of each group, then the rest).

Each order is served by one real vLLM, batch by batch, from an empty cache; prefill tokens are the prompts' tokens less
those that the engine took from its cache. The model is a tiny random Llama: tokens and hits do not depend on weights.
Beside it a simulated cache (least recently used, one request at a time), for other sizes of the cache too; where vLLM
is not installed (see .ci/vllm) there is the simulation alone, with tokens estimated from characters.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentmem.reflection.batch_order import BlockCount, arranged, paths, predicted
from agentmem.tokens import approximate_counter
from benchmarks import machine, plots
from benchmarks.batch_jobs import BlockCache, agent_of, jobs, strategy_of

if TYPE_CHECKING:
    from agentmem.protocols import Backend, TokenCounter
    from agentmem.types import Request

GOAL = 2.0
"""Times fewer prefill tokens than in the order of arrival."""
BLOCK = 32  # vLLM's CPU attention takes multiples of 32; on a GPU it is 16
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
OURS, ARRIVAL = "ours", "arrival"


@dataclass(frozen=True, slots=True)
class Served:
    """What an order cost: tokens of prompts, those taken from the cache, and seconds (None: simulated)."""

    prompt: int
    cached: int
    seconds: float | None = None

    @property
    def prefill(self) -> int:
        return self.prompt - self.cached


def serve(backend: Backend, requests: Sequence[Request], order: Sequence[int], size: int) -> Served:
    """The requests in this order, in batches of `size`, by an engine whose cache is as it is."""
    begun = time.perf_counter()
    prompt = cached = 0
    for start in range(0, len(order), size):
        for completion in backend.generate([requests[n] for n in order[start : start + size]]):
            prompt += completion.usage.prompt_tokens
            cached += completion.usage.cached_tokens or 0
    return Served(prompt, cached, time.perf_counter() - begun)


def simulate(numbered: Sequence[Sequence[int]], order: Sequence[int], capacity: int, count: BlockCount) -> Served:
    """The same under a simulated cache of `capacity` blocks, one request after another."""
    cache = BlockCache(capacity)
    return Served(count.prompt_tokens, count.block_size * sum(cache.take(numbered[n]) for n in order))


def orders(
    requests: Sequence[Request], counter: TokenCounter, block: int, size: int, seed: int
) -> dict[str, list[int]]:
    """The orders that are compared; numbers are those of the arrival."""
    ours = arranged(requests, counter, block)
    shuffled = list(range(len(requests)))
    random.Random(seed).shuffle(shuffled)
    # Python's sort keeps the order of arrival, so an agent's own questions stay in theirs.
    collected = sorted(range(len(requests)), key=lambda n: (strategy_of(requests[n]), agent_of(requests[n])))
    return {
        ARRIVAL: list(range(len(requests))),
        "shuffled": shuffled,
        "collected": collected,
        "text": sorted(range(len(requests)), key=lambda n: [m.content for m in requests[n].messages]),
        OURS: list(ours.order),
        "ours, leads first": [n for batch in ours.batches(size) for n in _leads_first(requests, batch)],
    }


def _leads_first(requests: Sequence[Request], batch: Sequence[int]) -> list[int]:
    first: dict[tuple[int, int], int] = {}
    for n in batch:
        first.setdefault((strategy_of(requests[n]), agent_of(requests[n])), n)
    return [*first.values(), *(n for n in batch if n not in set(first.values()))]


def engine(path: Path, blocks: int, *, window: int = 2048, most: int = 64) -> Any:
    """A vLLM whose prefix cache has room for `blocks` blocks; `most` requests run at once."""
    from agentmem.backends.vllm_engine import VllmBackend

    # One block is the engine's own and holds nothing.
    return VllmBackend(
        str(path), max_model_len=window, block_size=BLOCK, num_gpu_blocks_override=blocks + 1, max_num_seqs=most,
        kv_cache_memory_bytes=2**28, enforce_eager=True, dtype="float32",
    )  # fmt: skip


def run(args: Any, say: Callable[[str], None]) -> tuple[dict[str, list[dict[str, Any]]], dict[str, Any]]:
    """The tables, and what the picture draws."""
    requests = jobs(args.agents, args.strategies, args.asks, args.records, seed=args.seed)
    if find_spec("vllm") is None:
        say("vLLM is not installed: a simulated cache alone, tokens estimated from characters (see .ci/vllm)")
        counter: TokenCounter = approximate_counter()
        served: dict[str, Served] = {}
    else:
        counter, served = on_vllm(requests, args, say)
    count, numbered = predicted(requests, counter, BLOCK), paths(requests, counter, BLOCK)
    compared = orders(requests, counter, BLOCK, args.batch, args.seed)
    shares = sorted({*SHARES, args.share})
    simulated = {
        share: {name: simulate(numbered, order, held(count, share), count) for name, order in compared.items()}
        for share in shares
    }
    at = held(count, args.share)
    what = [{
        "requests": len(requests), "prompt tokens": count.prompt_tokens, "block": BLOCK, "blocks": count.total_blocks,
        "distinct": count.distinct_blocks, "cache, blocks": at, "cache, tokens": at * BLOCK,
        "longest prompt, blocks": max(map(len, numbered)), "predicted prefill": count.prefill_tokens,
        "tokens": "the model's" if count.exact else "estimated",
    }]  # fmt: skip
    tables: dict[str, list[dict[str, Any]]] = {"jobs": what}
    if served:
        tables["vLLM"] = _rows(served)
    tables[f"simulated, a cache of {args.share:g} of the blocks"] = _rows(simulated[args.share])
    tables["simulated, times fewer prefill tokens than arrival, by the cache's share of the blocks"] = [
        {"order": name, **{f"{s:g}": round(simulated[s][ARRIVAL].prefill / simulated[s][name].prefill, 2)
                           for s in shares}}
        for name in compared
    ]  # fmt: skip
    tables["simulated, times fewer prefill tokens than arrival, by questions of one material"] = _by_asks(args)
    measured = served or simulated[args.share]
    times = measured[ARRIVAL].prefill / measured[OURS].prefill
    tables["goals"] = [
        {"goal": f"at least {GOAL:g} times fewer prefill tokens than arrival, cache {args.share:g}",
         "by": "vLLM" if served else "the simulation", "measured": round(times, 2), "met": times >= GOAL}
    ]  # fmt: skip
    drawn = {
        "prompt": count.prompt_tokens, "share": args.share,
        "simulated": {name: [[s, simulated[s][name].prefill] for s in shares] for name in compared},
        "vllm": {name: s.prefill for name, s in served.items()},
    }  # fmt: skip
    return tables, drawn


def on_vllm(
    requests: Sequence[Request], args: Any, say: Callable[[str], None]
) -> tuple[TokenCounter, dict[str, Served]]:
    """Each order on one engine, from an empty cache; and the model's tokenizer."""
    from agentmem.backends.chat_template import ChatTokenizer
    from tests.models.tiny import random_model

    served = {}
    with tempfile.TemporaryDirectory() as folder:
        path = random_model(Path(os.environ.get("AGENTMEM_TEST_MODELS", folder)) / "random8k")
        counter = ChatTokenizer.load(str(path))
        count = predicted(requests, counter, BLOCK)
        backend = engine(path, held(count, args.share))
        try:
            # Its first steps compile; they are not measured.
            backend.generate([replace(r, cache_salt="warm") for r in requests[: args.batch]])
            for name, order in orders(requests, counter, BLOCK, args.batch, args.seed).items():
                if not backend.reset_prefix_cache():
                    raise RuntimeError("the cache could not be emptied")
                served[name] = serve(backend, requests, order, args.batch)
                say(f"{name}: {served[name].prefill:,} tokens in {served[name].seconds:.0f} s")
        finally:
            backend.close()
    return counter, served


def held(count: BlockCount, share: float) -> int:
    """Blocks of a cache that holds this share of the distinct ones."""
    return max(1, int(share * count.distinct_blocks))


def _rows(found: dict[str, Served]) -> list[dict[str, Any]]:
    base = found[ARRIVAL].prefill
    return [
        {"order": name, "prefill tokens": s.prefill, "cached %": round(100 * s.cached / s.prompt, 1),
         "times fewer": round(base / s.prefill, 2), **({} if s.seconds is None else {"seconds": round(s.seconds, 1)})}
        for name, s in found.items()
    ]  # fmt: skip


def _by_asks(args: Any) -> list[dict[str, Any]]:
    rows = []
    for asks in (1, 2, 3, 4, 6, 8):
        requests = jobs(args.agents, args.strategies, asks, args.records, seed=args.seed)
        counter = approximate_counter()
        count, numbered = predicted(requests, counter, BLOCK), paths(requests, counter, BLOCK)
        compared = orders(requests, counter, BLOCK, args.batch, args.seed)
        found = {n: simulate(numbered, o, held(count, args.share), count) for n, o in compared.items()}
        rows.append({"questions": asks, "requests": len(requests),
                     **{n: round(found[ARRIVAL].prefill / found[n].prefill, 2)
                        for n in ("shuffled", "collected", OURS)}})  # fmt: skip
    return rows


def draw(drawn: dict[str, Any], path: Path) -> None:
    """Prefill tokens against the cache's share of the blocks: lines are simulated, rings are vLLM's."""
    figure, axes = plots._figure(8.4, 4.6)
    for n, name in enumerate(("shuffled", ARRIVAL, OURS)):
        shares = [share for share, _ in drawn["simulated"][name]]
        per_cent = [100 * tokens / drawn["prompt"] for _, tokens in drawn["simulated"][name]]
        axes.plot(shares, per_cent, color=plots.COLOURS[n], marker=plots.MARKERS[n], markersize=5, clip_on=False,
                  linewidth=2.4 if name == OURS else 1.6, zorder=4 if name == OURS else 3)  # fmt: skip
        above = name != ARRIVAL
        at = shares.index(drawn["share"])
        end = {"textcoords": "offset points", "color": plots.COLOURS[n], "ha": "center", "fontsize": 10,
               "va": "bottom" if above else "top", "fontweight": "bold" if name == OURS else "normal"}  # fmt: skip
        axes.annotate(name, (shares[1], per_cent[1]), (0, 7 if above else -7), **end)
        axes.annotate(f"{per_cent[at]:.0f}", (shares[at], per_cent[at]), (0, 9 if above else -9), **end)
        if name in drawn["vllm"]:
            axes.plot(shares[at], 100 * drawn["vllm"][name] / drawn["prompt"], marker="o", markersize=13,
                      markerfacecolor="none", markeredgewidth=1.8, color=plots.COLOURS[n], zorder=5)  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks(shares, [f"{s:g}" for s in shares])
    axes.minorticks_off()
    axes.set_ylim(0, 100)
    axes.set_xlabel("the cache's size as a share of the distinct blocks (logarithmic)")
    axes.set_ylabel("prompt tokens that are computed (%)")
    rings = "; rings: a real vLLM" if drawn["vllm"] else ""
    axes.set_title(f"Reflection jobs of many agents by the order of their requests, simulated{rings}", loc="left",
                   fontsize=11)  # fmt: skip
    plots._save(figure, path)


def main(argv: Sequence[str] | None = None) -> None:
    parser = machine.parser(__doc__)
    parser.add_argument("--agents", type=int, default=200, help="whose jobs come together (200)")
    parser.add_argument("--strategies", type=int, default=2, help="that each runs (2)")
    parser.add_argument("--asks", type=int, default=4, help="questions of one material (4)")
    parser.add_argument("--records", type=int, default=24, help="in a material (24)")
    parser.add_argument("--share", type=float, default=0.1, help="of the distinct blocks that the cache holds (0.1)")
    parser.add_argument("--batch", type=int, default=64, help="requests (64)")
    parser.add_argument("--out", type=Path, help="a folder for batch_prefix.json and batch_prefix.png")
    args = parser.parse_args(argv)
    tables, drawn = run(args, lambda text: machine.say(args, text))
    note = f"seed {args.seed}, batches of {args.batch}; each order from an empty cache"
    result = machine.show_tables(args, tables, note=note, drawn=drawn)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "batch_prefix.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        if plots.installed(lambda text: machine.say(args, text)):
            draw(drawn, args.out / "batch_prefix.png")


if __name__ == "__main__":
    main()
