"""Everything that can be seen of a memory: what an undo has to restore."""

from __future__ import annotations

from typing import Any

from agentmem.memory import Memory
from agentmem.times import format_time

QUERIES = ("Where does Anna live?", "tea", "note about Lisbon", "Who lives in Porto?", "the harbour")


def views(memory: Memory) -> dict[str, Any]:
    """Passages (closed ones too), blocks, ratings, further keys, searches, pages and the whole prompt."""
    records = memory.records
    passages = [
        (p.ref, p.text, p.kind, p.tags, p.sources, p.superseded_by, format_time(p.valid_from), str(p.valid_to))
        for p in records.archival.after(0)
    ]
    memory.search(QUERIES[0])  # what has no vector yet gets one
    stats = memory.stats()
    return {
        "passages": passages,
        "blocks": [(b.label, b.value, b.max_tokens, b.read_only) for b in records.journal.blocks()],
        "uses": [u for u in records.uses.all() if u[2] is not None],
        "keys": records.keys.all(),
        "search": [
            [(h.id, h.score, h.text) for h in memory.search(q, top_k=20, superseded=closed)]
            for q in QUERIES
            for closed in (False, True)
        ],
        "pages": [memory.page_in(q, max_tokens=60).text for q in QUERIES],
        "prompt": [m.content for m in memory.render(query=QUERIES[0]).messages],
        "counts": {name: stats[name] for name in ("messages", "passages", "in_queue", "not_embedded")},
    }
