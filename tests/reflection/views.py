"""Everything that can be seen of a memory: what an undo has to restore."""

from __future__ import annotations

from typing import Any

from agentmem.memory import Memory
from agentmem.times import format_time

QUERIES = ("Where does Anna live?", "tea", "note about Lisbon", "Who lives in Porto?", "the harbour")


def words(memory: Memory) -> dict[str, list[tuple[Any, ...]]]:
    """All that the full-text indexes and the term lists hold: (term, record, place), and each list."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    db, records = memory.store.db, memory.records
    for tier, part in (("recall", records.recall), ("archival", records.archival)):
        table = part.lexical.table
        with db.lock:
            db.run(f"CREATE VIRTUAL TABLE temp.{table}_seen USING fts5vocab('main', '{table}', 'instance')")
            sql = f"SELECT doc, offset, term FROM temp.{table}_seen ORDER BY doc, offset"
            found[tier] = [tuple(r) for r in db.rows(sql)]
            db.run(f"DROP TABLE temp.{table}_seen")
    sql = "SELECT tier, record_id, terms FROM term_lists WHERE agent_id = ? ORDER BY tier, record_id"
    return {**found, "lists": [tuple(r) for r in db.rows(sql, (records.agent_id,))]}


def views(memory: Memory) -> dict[str, Any]:
    """Passages (closed ones too), blocks, ratings, further keys, words, searches, pages and the whole prompt."""
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
        "words": words(memory),
        "search": [
            [(h.id, h.score, h.text) for h in memory.search(q, top_k=20, superseded=closed)]
            for q in QUERIES
            for closed in (False, True)
        ],
        "pages": [memory.page_in(q, max_tokens=60).text for q in QUERIES],
        "prompt": [m.content for m in memory.render(query=QUERIES[0]).messages],
        "counts": {name: stats[name] for name in ("messages", "passages", "in_queue", "not_embedded")},
    }
