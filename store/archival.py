"""Archival storage: passages with the time in which they hold, what superseded them, and what they came from."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from agentmem.errors import InvalidInputError
from agentmem.store.database import Database, in_chunks, marks
from agentmem.store.lexical import Lexical
from agentmem.store.record_words import RecordWords, Row
from agentmem.store.selection import Choice, Scan, Selection
from agentmem.store.term_lists import TermLists
from agentmem.times import format_time, utc_seconds
from agentmem.types import Passage

ALWAYS = 1e18
"""Later than any time that can be compared, in seconds."""


def _words(passages: Iterable[Passage]) -> list[Row]:
    return [(p.id, p.text, p.text) for p in passages]


class Archival:
    """The passages of one agent."""

    def __init__(self, db: Database, agent_id: int) -> None:
        self._db = db
        self._agent = agent_id
        self._words = RecordWords(db, agent_id, "archival", f"fts_passages_{agent_id}")

    @property
    def lexical(self) -> Lexical:
        """The full-text index over passages and their further keys."""
        return self._words.lexical

    @property
    def terms(self) -> TermLists:
        """The term lists of passages and their further keys (tier "archival")."""
        return self._words.terms

    def next_id(self) -> int:
        """The id that the next passage gets; take it within the transaction that adds."""
        row = self._db.row("SELECT next_passage FROM agents WHERE id = ?", (self._agent,))
        assert row is not None
        return int(row[0])

    def add(self, passages: Sequence[Passage]) -> None:
        """Store passages (ids from `next_id` on), within the caller's transaction."""
        for p in passages:
            self._db.run(
                "INSERT INTO passages (agent_id, id, key, text, kind, tags, stored_at, stored_utc, valid_from,"
                " valid_from_utc, valid_to, valid_to_utc, superseded_by) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
                (
                    self._agent, p.id, p.key, p.text, p.kind, json.dumps(list(p.tags)), format_time(p.stored_at),
                    utc_seconds(p.stored_at), format_time(p.valid_from), utc_seconds(p.valid_from),
                    format_time(p.valid_to) if p.valid_to else None, utc_seconds(p.valid_to) if p.valid_to else None,
                    p.superseded_by,
                ),
            )  # fmt: skip
            self._db.run_many(
                "INSERT INTO provenance (agent_id, passage_id, source) VALUES (?, ?, ?)",
                [(self._agent, p.id, source) for source in dict.fromkeys(p.sources)],
            )
        self._index(passages)
        if passages:
            self._db.run(
                "UPDATE agents SET next_passage = max(next_passage, ?) WHERE id = ?",
                (max(p.id for p in passages) + 1, self._agent),
            )

    def restore(self, passages: Sequence[Passage]) -> None:
        """Store passages with the ids that they have (an import), within the caller's transaction."""
        # A passage may be superseded by one with a higher id: that one must be there first.
        self.add(sorted(passages, key=lambda p: -p.id))

    def supersede(self, old: Passage, new: Passage) -> Passage:
        """Close `old` when `new` begins to hold (if it has not ended before), and add `new`.

        Within the caller's transaction.
        """
        if old.superseded_by is not None:
            raise InvalidInputError(
                "passage_id", old.ref, f"was superseded by p{old.superseded_by} already", hint="supersede that one"
            )
        self.add([new])
        ends = min((t for t in (old.valid_to, new.valid_from) if t is not None), key=utc_seconds)
        self.set_end(old.id, ends, new.id)
        return replace(old, valid_to=ends, superseded_by=new.id)

    def set_end(self, passage_id: int, valid_to: datetime | None, superseded_by: int | None) -> None:
        """Say when a passage ceases to hold (None: not) and what holds instead, within the caller's transaction."""
        ends = (None, None) if valid_to is None else (format_time(valid_to), utc_seconds(valid_to))
        self._db.run(
            "UPDATE passages SET valid_to = ?, valid_to_utc = ?, superseded_by = ? WHERE agent_id = ? AND id = ?",
            (*ends, superseded_by, self._agent, passage_id),
        )

    def get(self, ids: Sequence[int]) -> list[Passage]:
        """The passages that exist among `ids`, in the order of `ids`."""
        found: dict[int, Passage] = {}
        for chunk in in_chunks(ids):
            sources: dict[int, list[str]] = {}
            sql = f"SELECT passage_id, source FROM provenance WHERE agent_id = ? AND passage_id IN ({marks(chunk)})"
            for row in self._db.rows(sql + " ORDER BY rowid", (self._agent, *chunk)):
                sources.setdefault(row[0], []).append(row[1])
            sql = f"SELECT * FROM passages WHERE agent_id = ? AND id IN ({marks(chunk)})"
            for row in self._db.rows(sql, (self._agent, *chunk)):
                found[row["id"]] = self._passage(row, tuple(sources.get(row["id"], ())))
        return [found[i] for i in ids if i in found]

    def texts(self, ids: Sequence[int]) -> list[tuple[int, str, str]]:
        """(id, text, when it began to hold, ISO) of those of `ids` that exist, by id ascending: what ranking reads."""
        found: list[tuple[int, str, str]] = []
        for chunk in in_chunks(sorted(set(ids))):
            sql = f"SELECT id, text, valid_from FROM passages WHERE agent_id = ? AND id IN ({marks(chunk)}) ORDER BY id"
            found += [tuple(row) for row in self._db.rows(sql, (self._agent, *chunk))]
        return found

    def by_key(self, key: str) -> Passage | None:
        """The passage with a caller's key."""
        row = self._db.row("SELECT id FROM passages WHERE agent_id = ? AND key = ?", (self._agent, key))
        return self.get([row[0]])[0] if row else None

    def delete(self, passages: Sequence[Passage]) -> None:
        """Delete passages, their words and their further keys, within the caller's transaction."""
        self._words.remove(_words(passages))
        self._db.run_many(
            "DELETE FROM passage_tags WHERE agent_id = ? AND tag = ? AND passage_id = ?",
            sorted(self._tags(passages)),
        )
        for p in passages:
            # What it had superseded stays closed; only the pointer to the deleted one goes.
            self._db.run(
                "UPDATE passages SET superseded_by = NULL WHERE agent_id = ? AND superseded_by = ?", (self._agent, p.id)
            )
            self._db.run("DELETE FROM passages WHERE agent_id = ? AND id = ?", (self._agent, p.id))

    def set_keys(self, passage_id: int, keys: Sequence[str]) -> None:
        """Let a passage be found by exactly these further keys too, within the caller's transaction. Raises
        InvalidInputError for one that is not there."""
        rows = _words(self.get([passage_id]))
        if not rows:
            raise InvalidInputError("keys", f"p{passage_id}", "is no passage that is there", hint="leave them out")
        self._words.set_keys(rows[0], keys)

    def reindex(self) -> int:
        """Make full-text index, term lists and tags by name anew, within the caller's transaction; how many passages
        they have."""
        self._words.clear()
        self._db.run("DELETE FROM passage_tags WHERE agent_id = ?", (self._agent,))
        count = 0
        for passages in self._batches():
            self._index(passages)
            count += len(passages)
        return count

    def _index(self, passages: Sequence[Passage]) -> None:
        self._words.add(_words(passages))
        self._db.run_many(
            "INSERT INTO passage_tags (agent_id, tag, passage_id) VALUES (?, ?, ?)", sorted(self._tags(passages))
        )

    def _tags(self, passages: Sequence[Passage]) -> set[tuple[int, str, int]]:
        return {(self._agent, tag, p.id) for p in passages for tag in p.tags}

    def check_terms(self) -> list[str]:
        """What does not agree between passages, their term lists and tags (reads all of them); [] when all is well."""
        wanted: set[int] = set()
        wrong: list[int] = []
        tags: set[tuple[int, str, int]] = set()
        for passages in self._batches():
            wanted |= {p.id for p in passages}
            wrong += self._words.differing(_words(passages))
            tags |= self._tags(passages)
        found = self._words.findings(wrong, wanted)
        rows = self._db.rows("SELECT agent_id, tag, passage_id FROM passage_tags WHERE agent_id = ?", (self._agent,))
        if different := {tuple(r) for r in rows} ^ tags:
            found.append(f"{len(different)} tags of passages are not found, or found without being there")
        return found

    def _batches(self) -> Iterator[list[Passage]]:
        last = 0
        sql = "SELECT id FROM passages WHERE agent_id = ? AND id > ? ORDER BY id LIMIT 1000"
        while ids := [r[0] for r in self._db.rows(sql, (self._agent, last))]:
            yield self.get(ids)
            last = ids[-1]

    def derived_from(self, source: str) -> list[Passage]:
        """Passages that name a record (`m12`, `p3`) as where they came from."""
        rows = self._db.rows(
            "SELECT passage_id FROM provenance WHERE agent_id = ? AND source = ?", (self._agent, source)
        )
        return self.get([r[0] for r in rows])

    def over(self, tag: str, messages: Sequence[int]) -> dict[int, int]:
        """Of those messages (ids) that are sources of an open passage with a tag, its id: of the newest, if several."""
        first = "SELECT 1 FROM passage_tags WHERE agent_id = ? AND tag = ? LIMIT 1"
        if self._db.row(first, (self._agent, tag)) is None:
            return {}
        found: dict[int, int] = {}
        for chunk in in_chunks(messages):
            sql = (
                "SELECT s.source, p.id FROM provenance s JOIN passages p ON p.agent_id = s.agent_id AND"
                f" p.id = s.passage_id WHERE s.agent_id = ? AND s.source IN ({marks(chunk)}) AND p.valid_to IS NULL AND"
                " EXISTS (SELECT 1 FROM passage_tags t WHERE t.agent_id = p.agent_id AND t.tag = ? AND"
                " t.passage_id = p.id) ORDER BY p.id"
            )
            refs = [f"m{i}" for i in chunk]
            found |= {int(r[0][1:]): r[1] for r in self._db.rows(sql, (self._agent, *refs, tag))}
        return found

    def tag_state(self, tag: str) -> tuple[int, int, int]:
        """Another one after each change of which open passages have a tag: how many, the sums of ids and squares."""
        row = self._db.row(
            "SELECT count(*), coalesce(sum(p.id), 0), coalesce(sum(p.id * p.id), 0) FROM passage_tags t JOIN passages p"
            " ON p.agent_id = t.agent_id AND p.id = t.passage_id"
            " WHERE t.agent_id = ? AND t.tag = ? AND p.valid_to IS NULL",
            (self._agent, tag),
        )
        assert row is not None
        return int(row[0]), int(row[1]), int(row[2])

    def tagged(self, tag: str) -> list[Passage]:
        """The open passages with a tag, by id."""
        rows = self._db.rows(
            "SELECT p.id FROM passage_tags t JOIN passages p ON p.agent_id = t.agent_id AND p.id = t.passage_id"
            " WHERE t.agent_id = ? AND t.tag = ? AND p.valid_to IS NULL ORDER BY p.id",
            (self._agent, tag),
        )
        return self.get([r[0] for r in rows])

    def all_ids(self) -> list[int]:
        """Ids of all passages, superseded ones too, ascending."""
        return [r[0] for r in self._db.rows("SELECT id FROM passages WHERE agent_id = ? ORDER BY id", (self._agent,))]

    def after(self, last: int) -> list[Passage]:
        """Passages with an id above `last`, in order."""
        rows = self._db.rows("SELECT id FROM passages WHERE agent_id = ? AND id > ? ORDER BY id", (self._agent, last))
        return self.get([r[0] for r in rows])

    def selection(
        self,
        at: float,
        known_at: float | None = None,
        *,
        since: float | None = None,
        until: float | None = None,
        tags: Sequence[str] = (),
        without: Sequence[str] = (),
        superseded: bool = False,
    ) -> Selection:
        """The passages that hold at a time, of those known by then if `known_at` is given, that began to hold within
        `since` and `until` (both included), and have all of `tags` and none of `without`; with `superseded` also those
        that held no longer. Times are in seconds, UTC. The cost is that of the exceptions, or of those that hold where
        they are fewer."""
        first, last = -ALWAYS if since is None else since, at if until is None else min(at, until)
        begun = self._scan("valid_from_utc >= ? AND valid_from_utc <= ?", first, last)
        beyond = [self._scan("valid_from_utc > ?", last)]
        beyond += [self._scan("valid_from_utc < ?", first)] if since is not None else []
        ended = [] if superseded else [self._scan("valid_to_utc <= ?", at)]
        later = [] if known_at is None else [self._scan("stored_utc > ?", known_at)]
        tagged = "SELECT passage_id AS id FROM passage_tags WHERE agent_id = ? AND tag = ?"
        barred = [Scan(tagged, (self._agent, tag)) for tag in dict.fromkeys(without)]
        ranges = [(begun, [*ended, *later, *barred])]
        ranges += [] if known_at is None else [(self._scan("stored_utc <= ?", known_at), [*beyond, *ended, *barred])]
        named = list(dict.fromkeys(tags))
        return Choice(
            everything=self._scan("1"),
            exceptions=[*beyond, *ended, *later, *barred],
            required=[Scan(tagged, (self._agent, tag)) for tag in named],
            ranges=ranges,
            among=self._among(first, last, at, known_at, named, without, superseded),
        ).selection(self._db, self.next_id() - 1)

    def _scan(self, where: str, *parameters: float | str) -> Scan:
        return Scan(f"SELECT id FROM passages WHERE agent_id = ? AND {where}", (self._agent, *parameters))

    def _among(
        self,
        first: float,
        last: float,
        at: float,
        known_at: float | None,
        tags: Sequence[str],
        without: Sequence[str],
        superseded: bool,
    ) -> Scan:
        conditions = ["p.valid_from_utc >= ? AND p.valid_from_utc <= ?"]
        values: list[Any] = [self._agent, first, last]
        if not superseded:
            conditions.append("(p.valid_to_utc IS NULL OR p.valid_to_utc > ?)")
            values.append(at)
        if known_at is not None:
            conditions.append("p.stored_utc <= ?")
            values.append(known_at)
        for tag, wanted in [*((t, "") for t in tags), *((t, "NOT ") for t in without)]:
            conditions.append(
                f"{wanted}EXISTS (SELECT 1 FROM passage_tags WHERE agent_id = ? AND tag = ? AND passage_id = p.id)"
            )
            values += [self._agent, tag]
        # A join finds the rows by their ids; with IN, SQLite would rather read an index from end to end.
        sql = (
            "SELECT p.id FROM json_each(?) named CROSS JOIN passages p ON p.agent_id = ? AND p.id = named.value WHERE "
        )
        return Scan(sql + " AND ".join(conditions), tuple(values))

    @staticmethod
    def _passage(row: sqlite3.Row, sources: tuple[str, ...]) -> Passage:
        return Passage(
            id=row["id"],
            text=row["text"],
            stored_at=datetime.fromisoformat(row["stored_at"]),
            valid_from=datetime.fromisoformat(row["valid_from"]),
            valid_to=datetime.fromisoformat(row["valid_to"]) if row["valid_to"] else None,
            superseded_by=row["superseded_by"],
            key=row["key"],
            kind=row["kind"],
            tags=tuple(json.loads(row["tags"])),
            sources=sources,
        )
