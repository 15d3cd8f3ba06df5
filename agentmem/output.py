"""What the commands print: values as JSON documents. Outside programs read these shapes; they only ever grow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from agentmem.reports import IngestReport
from agentmem.times import format_time
from agentmem.types import Citation, Hit, Ledger, Page, Prompt, Reply


def hit(h: Hit) -> dict[str, Any]:
    """A search result."""
    out: dict[str, Any] = {
        "key": h.key, "id": h.id, "tier": h.tier.value, "score": round(h.score, 6), "text": h.text,
        "at": format_time(h.at), "name": h.name, "session": h.session,
    }  # fmt: skip
    if h.source:
        out["source"] = list(h.source)
    if h.tags:
        out["tags"] = list(h.tags)
    if h.parts is not None:
        out["parts"] = dict(h.parts)
    return out


def page(query_id: Any, p: Page) -> dict[str, Any]:
    """A page-in."""
    return {
        "id": query_id, "num_tokens": p.num_tokens, "keys": list(p.keys), "shortened": list(p.shortened),
        "ids": [i.hit.id for i in p.items], "text": p.text,
    }  # fmt: skip


def ledger(counted: Ledger) -> dict[str, Any]:
    """Where the tokens are."""
    return {
        "total": counted.total, "max_tokens": counted.max_tokens, "sections": dict(counted.sections),
        "counter": counted.counter, "exact": counted.exact,
    }  # fmt: skip


def prompt(query_id: Any, p: Prompt) -> dict[str, Any]:
    """A whole prompt."""
    return {
        "id": query_id, "ledger": ledger(p.ledger), "keys": list(p.keys), "shortened": list(p.shortened),
        "messages": [m.to_dict() for m in p.messages],
    }  # fmt: skip


def citation(c: Citation) -> dict[str, Any]:
    """A record that a reply rests on."""
    return {"key": c.key, "id": c.id, "tier": c.tier.value, "text": c.text}


def reply(query_id: Any, r: Reply) -> dict[str, Any]:
    """A turn's reply."""
    return {
        "id": query_id, "text": r.text, "answer": r.answer, "abstained": r.abstained,
        "confidence": None if r.confidence is None else round(r.confidence, 4),
        "citations": [citation(c) for c in r.citations], "usage": asdict(r.usage), "ledger": ledger(r.ledger),
        "steps": r.steps, "prefixes": [asdict(p) for p in r.prefixes],
    }  # fmt: skip


def report(r: IngestReport) -> dict[str, Any]:
    """What an ingest did."""
    return {
        "read": r.read, "stored": r.stored, "skipped": r.skipped, "conflicts": [dict(c) for c in r.conflicts],
        "malformed": [dict(m) for m in r.malformed],
    }  # fmt: skip


def dumps(value: Mapping[str, Any]) -> str:
    """One line of JSON; text stays readable."""
    return json.dumps(value, ensure_ascii=False)
