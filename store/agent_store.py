"""All that is stored of one agent. Nothing here can name another agent's records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from agentmem.store.answers import Answers
from agentmem.store.archival import Archival
from agentmem.store.background import Background
from agentmem.store.database import Database
from agentmem.store.dense import DenseIndex, Notify
from agentmem.store.derived import Derived
from agentmem.store.index_cache import IndexCache
from agentmem.store.jobs import Jobs
from agentmem.store.journal import Journal
from agentmem.store.recall import Recall
from agentmem.store.record_keys import RecordKeys
from agentmem.store.uses import Uses
from agentmem.store.vectors import Vectors

TIERS = ("recall", "archival")


class AgentStore:
    """The parts, bound to one agent id."""

    SCRUB_DUE = "scrub_due"
    """A cursor, set in the transaction of an erasure and dropped when the file is scrubbed: what was killed in between
    is finished when the agent is next opened."""

    def __init__(
        self,
        db: Database,
        agent_id: int,
        name: str,
        *,
        folder: Path | None,
        index: str,
        notify: Notify,
        background: Background,
        cache: IndexCache,
    ) -> None:
        self.db = db
        self.agent_id = agent_id
        self.name = name
        self.recall = Recall(db, agent_id)
        self.archival = Archival(db, agent_id)
        self.journal = Journal(db, agent_id)
        self.vectors = Vectors(db, agent_id)
        self.uses = Uses(db, agent_id)
        self.derived = Derived(db, agent_id)
        self.answers = Answers(db, agent_id)
        self.jobs = Jobs(db, agent_id)
        self.keys = RecordKeys(db, agent_id)
        self.dense: dict[str, DenseIndex] = {
            tier: DenseIndex(
                self.vectors,
                tier,
                folder / f"agent-{agent_id}-{tier}.index" if folder is not None else None,
                kind=index,
                notify=notify,
                background=background,
                cache=cache,
            )
            for tier in TIERS
        }

    def set_keys(self, tier: str, record_id: int, keys: Sequence[str]) -> None:
        """Let a record have exactly these further keys, and be found by their words, within the caller's transaction.
        Raises InvalidInputError for one that is not there, or is not searched."""
        (self.recall if tier == "recall" else self.archival).set_keys(record_id, keys)

    def pending(self) -> tuple[int, int]:
        """(messages, passages) that may still lack vectors: how far the watermarks are behind the counters."""
        messages = self.recall.last_id() - self.vectors.watermark("recall")
        return messages, self.archival.next_id() - 1 - self.vectors.watermark("archival")

    def counters(self) -> dict[str, int]:
        """The next ids of messages, passages and events."""
        row = self.db.row("SELECT next_message, next_passage, next_event FROM agents WHERE id = ?", (self.agent_id,))
        assert row is not None
        return {"next_message": row[0], "next_passage": row[1], "next_event": row[2]}

    def set_counters(self, counters: Mapping[str, int]) -> None:
        """Set the next ids, after an import, within its transaction."""
        self.db.run(
            "UPDATE agents SET next_message = ?, next_passage = ?, next_event = ?, generation = generation + 1"
            " WHERE id = ?",
            (counters["next_message"], counters["next_passage"], counters["next_event"], self.agent_id),
        )

    def clear(self) -> None:
        """Take away the blocks, epochs and events that a new agent begins with, within the caller's transaction."""
        self.clear_caches()
        for table in ("job_changes", "jobs", "record_keys", "blocks", "block_edits", "epochs", "events", "cursors"):
            self.db.run(f"DELETE FROM {table} WHERE agent_id = ?", (self.agent_id,))

    def clear_caches(self) -> None:
        """Forget what was derived from texts, and the answers that were kept, within the caller's transaction."""
        self.derived.clear()
        self.answers.clear()
        self.jobs.drop_answers()
