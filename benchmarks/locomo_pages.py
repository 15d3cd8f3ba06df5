"""LoCoMo questions with what agentmem itself finds for them, and LoCoMo's token F1.

Each conversation is put into a memory of its own; what the reader gets is `Memory.search`, best 40, as `ask` hands it
the same records in its page and queue. With `cache` the hits are kept in a file of JSON lines and read from there the
next time: they depend on the ranking, so make it anew when that changes.
"""

from __future__ import annotations

import json
import re
import string
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from agentmem import Memory
from agentmem.language import stem
from agentmem.types import Hit, PageItem, Tier

TOP_K = 40


@dataclass(frozen=True)
class Asked:
    """One question of the set with what was found for it; and the same with another conversation's names put in,
    with what that one finds: a question on what was never spoken of. `audited`: a public audit found its gold wrong."""

    conversation: str
    query: str
    at: datetime | None
    category: int
    answer: str
    evidence: tuple[str, ...]
    audited: bool
    items: tuple[PageItem, ...]
    foreign_query: str = ""
    foreign: tuple[PageItem, ...] = ()


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def without_names(text: str, names: set[str]) -> str:
    return re.sub(r"\b(?:" + "|".join(map(re.escape, names)) + r")(?:['’]s)?\b", " ", text, flags=re.IGNORECASE)


def _hit_line(hit: Hit) -> dict[str, Any]:
    line = asdict(hit) | {"at": hit.at.isoformat(), "tier": hit.tier.value}
    return line | {"parts": {n: round(v, 6) for n, v in (hit.parts or {}).items()}}


def _items(lines: Sequence[dict[str, Any]]) -> tuple[PageItem, ...]:
    out = []
    for line in lines:
        told = line | {"at": datetime.fromisoformat(line["at"]), "tier": Tier(line["tier"])}
        hit = Hit(**told | {"source": tuple(line["source"]), "tags": tuple(line["tags"])})
        out.append(PageItem(hit, 0, len(hit.text)))
    return tuple(out)


def found(memory: Memory, query: str, at: str | None) -> list[dict[str, Any]]:
    """The best hits for a question."""
    return [_hit_line(h) for h in memory.search(query, top_k=TOP_K, asked_at=at, explain=True)]


def _search(folder: Path, embedder: str) -> list[dict[str, Any]]:
    """A line a question: the question, its hits, and those of its foreign form."""
    paths = sorted(folder.glob("*.messages.jsonl"))
    if not paths:
        raise SystemExit(f"{folder} has no CONV.messages.jsonl")
    out = []
    with ExitStack() as stack:
        where = stack.enter_context(tempfile.TemporaryDirectory())
        memories, names = [], []
        for path in paths:
            memory = stack.enter_context(Memory(Path(where) / f"{path.stem}.db", embedder=embedder))
            lines = path.read_text(encoding="utf-8").splitlines()
            memory.ingest(lines)
            memories.append(memory)
            names.append(sorted({json.loads(line)["name"] for line in lines if line.strip()}))
        for n, path in enumerate(paths):
            other = (n + 1) % len(paths)
            for q in rows(path.with_name(path.name.replace("messages", "questions"))):
                changed = q["query"]
                for mine, theirs in zip(names[n], names[other], strict=False):
                    changed = re.sub(rf"\b{re.escape(mine)}\b", theirs, changed)
                out.append({
                    "conversation": path.name.split(".")[0], "question": q, "foreign_query": changed,
                    "hits": found(memories[n], q["query"], q.get("at")),
                    "foreign": found(memories[other], changed, q.get("at")),
                })  # fmt: skip
    return out


def load(folder: Path, embedder: str = "auto", cache: Path | None = None) -> list[Asked]:
    """All questions of a folder of CONV.messages.jsonl and CONV.questions.jsonl."""
    if cache is not None and cache.exists():
        lines = rows(cache)
    else:
        lines = _search(folder, embedder)
        if cache is not None:
            cache.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    out = []
    for line in lines:
        q = line["question"]
        at = datetime.fromisoformat(q["at"]) if q.get("at") else None
        out.append(Asked(
            line["conversation"], q["query"], at, q["category"], str(q["answer"]), tuple(q["evidence"]),
            bool(q.get("audit_error")), _items(line["hits"]), line["foreign_query"], _items(line["foreign"]),
        ))  # fmt: skip
    return out


_ARTICLES = {"a", "an", "the", "and"}


def f1_tokens(text: str) -> list[str]:
    plain = "".join(c for c in text.lower().replace(",", "") if c not in string.punctuation)
    return [stem(w) for w in plain.split() if w not in _ARTICLES]


def token_f1(said: str, gold: str) -> float:
    """LoCoMo's token F1: lower case, punctuation and articles out, stems."""
    a, b = f1_tokens(said), f1_tokens(gold)
    same = sum((Counter(a) & Counter(b)).values())
    return 2 * same / (len(a) + len(b)) if same else 0.0


def gold_f1(said: str, gold: str, category: int) -> float:
    """As LoCoMo scores: open-domain answers are cut at the semicolon; multi-hop answers are scored part by part."""
    if category == 3:
        return token_f1(said, gold.split(";")[0].strip())
    if category == 1:
        parts = [p.strip() for p in gold.split(",") if p.strip()]
        said_parts = [p.strip() for p in said.split(",") if p.strip()]
        if not said_parts or not parts:
            return 0.0
        return sum(max(token_f1(s, p) for s in said_parts) for p in parts) / len(parts)
    return token_f1(said, gold)
