"""kill -9 at the moments between two durable states, and at random ones: nothing acknowledged is lost, all agrees.

The kills come one after another in the same file, as a machine that keeps failing would have them.
"""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentmem.archive_file import export_lines
from agentmem.backends.hashing_embedder import HashingEmbedder
from agentmem.inspecting import verify
from agentmem.memory import Memory

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import killed_child as child  # noqa: E402

pytestmark = pytest.mark.slow
SEED = 20230508
KILLS: Counter[str] = Counter()
# So many kills each test goes on to, so that the sum holds however the tests are spread over processes.
TESTS = {"ingest": 8, "observe": 8, "migrate": 4, "converse": 4, "erase": 4, "reembed": 3, "import": 1}
EACH = {"ingest": 8, "observe": 8, "migrate": 5, "converse": 8, "erase": 8, "reembed": 6, "import": 10}
WANTED = 200


class Server:
    """The forking child of `killed_child.py`."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "killed_child.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, **job: Any) -> dict[str, Any]:
        """Carry out a job; how it ended. Anything but success or the SIGKILL that was asked for fails the test."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        ended: dict[str, Any] = json.loads(self.process.stdout.readline())
        if ended["signal"] == signal.SIGKILL:
            KILLS[f"{job['job']} at {job.get('point') or 'a random moment'}"] += 1
        else:
            assert (ended["signal"], ended["code"]) == (0, 0), (job, ended)
        return ended

    def kills(
        self, kind: str, points: tuple[str, ...], slowest_s: float, rng: random.Random
    ) -> Iterator[dict[str, Any]]:
        """Plans (what to add to a job), until as many have killed as this kind of test wants."""
        before = KILLS.total()
        for _ in range(8 * EACH[kind]):
            if KILLS.total() - before >= EACH[kind]:
                return
            if rng.random() < 0.3:
                yield {"kill_after_s": rng.uniform(0.002, slowest_s)}
            else:
                yield {"point": rng.choice(points), "nth": rng.choice((1, 1, 2, 3))}
        raise AssertionError(f"only {KILLS.total() - before} of {EACH[kind]} were killed")

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        assert self.process.wait(20) == 0


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def dim_of(db: Path) -> int:
    """The dimension of the vectors that serve."""
    connection = sqlite3.connect(db)
    try:
        row = connection.execute("SELECT dim FROM embedders WHERE active = 1").fetchone()
    except sqlite3.OperationalError:  # killed before the tables were made
        row = None
    finally:
        connection.close()
    return int(row[0]) if row else 64


def reopened(db: Path, agent: str = "default") -> Memory:
    return Memory(db, agent, embedder=HashingEmbedder(dim_of(db)), **child.SMALL)


def acked(acks: Path) -> list[str]:
    return acks.read_text().splitlines() if acks.exists() else []


def check(memory: Memory, wanted: set[int], possible: set[int], rng: random.Random) -> None:
    """All agrees; all of `wanted` is there, nothing but `possible`, none twice; what is there is found by its text."""
    assert verify(memory) == []
    last = memory.records.recall.last_id()
    stored = [m for m in memory.records.recall.since(1, last) if m.key is not None]
    contents = {m.key: m.content for m in stored}
    assert len(contents) == len(stored)
    assert len({m.content for m in stored}) == len(stored)
    assert contents.keys() <= {child.key_of(n) for n in possible}
    assert {child.key_of(n) for n in wanted} <= contents.keys()
    assert all(content == child.message(int(key[1:]))["content"] for key, content in contents.items())
    for n in rng.sample(sorted(wanted), min(3, len(wanted))):
        hits = memory.search(child.message(n)["content"], top_k=3, explain=True)
        found = {h.key: h for h in hits}[child.key_of(n)]
        # By its vector, not by its words alone.
        assert found.parts is not None and found.parts["cosine"] > 0.5
    assert verify(memory) == []


def keys_in(lines: list[str]) -> set[int]:
    return {int(line[1:]) for line in lines if line[:1] == "k"}


SNAPSHOT = ("snapshot.half_written", "snapshot.before_rename", "snapshot.written")
STORING = ("page_out.before_commit", "page_out.done", "attach.before_commit", "attach.committed", *SNAPSHOT)
INGESTING = (*STORING, "ingest.before_commit", "ingest.stored", "ingest.embedded")


@pytest.mark.parametrize("number", range(TESTS["ingest"]))
@pytest.mark.parametrize("kind", ["ingest", "observe"])
def test_killed_while_messages_come_in(server: Server, tmp_path: Path, kind: str, number: int) -> None:
    rng = random.Random(f"{SEED} {kind} {number}")
    db, acks = tmp_path / "m.db", tmp_path / "acks"
    job = {"job": kind, "db": str(db), "acks": str(acks), "first": 1}
    last = 30
    for plan in server.kills(kind, INGESTING if kind == "ingest" else STORING, 0.15, rng):
        # Each run begins again at the first message: known keys are skipped, and there is always more to come.
        server.run(**job, last=last, **plan)
        last += 6
        if db.exists():
            with reopened(db) as memory:
                check(memory, keys_in(acked(acks)), set(range(1, last + 1)), rng)
    server.run(**job, last=last)
    everything = set(range(1, last + 1))
    with reopened(db) as memory:
        check(memory, everything, everything, rng)
        assert memory.ingest([child.message(n) for n in everything]).skipped == last
        assert memory.stats()["messages"] == last


@pytest.mark.parametrize("number", range(TESTS["migrate"]))
def test_killed_while_a_file_is_made(server: Server, tmp_path: Path, number: int) -> None:
    rng = random.Random(f"{SEED} migrate {number}")
    db, acks = tmp_path / "m0.db", tmp_path / "acks"
    for n, plan in enumerate(server.kills("migrate", ("migration.before_commit", "migration.after_commit"), 0.03, rng)):
        # Now and then a file that was killed while it was made is killed again.
        db = tmp_path / f"m{n}.db" if rng.random() < 0.6 else db
        server.run(job="migrate", db=str(db), acks=str(acks), **plan)
    for file in tmp_path.glob("m*.db"):
        server.run(job="migrate", db=str(file), acks=str(acks))
        with reopened(file) as memory:
            assert verify(memory) == []
            assert [m.key for m in memory.records.recall.since(1)] == ["first"]
            assert memory.search("First of all.")[0].key == "first"
            assert list(memory.core) == ["persona", "human"]


@pytest.mark.parametrize("number", range(TESTS["converse"]))
def test_killed_in_the_middle_of_a_turn(server: Server, tmp_path: Path, number: int) -> None:
    rng = random.Random(f"{SEED} converse {number}")
    db, acks = tmp_path / "m.db", tmp_path / "acks"
    first = 1
    for plan in server.kills("converse", STORING, 0.2, rng):
        server.run(job="converse", db=str(db), acks=str(acks), first=first, last=first + 3, snapshot_every=1, **plan)
        first += 4
        if not db.exists():
            continue
        with reopened(db) as memory:
            assert verify(memory) == []
            for n in (int(line.split()[1]) for line in acked(acks)):
                said = child.message(n)["content"]
                rows = memory.store.db.rows("SELECT id FROM messages WHERE role = 'user' AND content = ?", (said,))
                assert len(rows) == 1
                facts = [h.text for h in memory.search(f"Fact {n}: {said}", tier="archival", top_k=2)]
                assert f"Fact {n}: {said}" in facts
                assert f"Fact {n}." in memory.core["human"].value.splitlines()
            # A call without its result, a passage without its step: never committed.
            stored = memory.records.recall.since(1)
            opened = {c.id for m in stored for c in m.tool_calls}
            assert opened == {m.tool_call_id for m in stored if m.tool_call_id}
            texts = [p.text for p in memory.records.archival.after(0)]
            assert len(texts) == len(set(texts))
            assert {t.split(":")[0] + "." for t in texts} == set(memory.core["human"].value.splitlines())


@pytest.mark.parametrize("number", range(TESTS["erase"]))
def test_killed_while_erasing(server: Server, tmp_path: Path, number: int) -> None:
    rng = random.Random(f"{SEED} erase {number}")
    db, acks = tmp_path / "m.db", tmp_path / "acks"
    total = 70
    server.run(job="ingest", db=str(db), acks=str(acks), first=1, last=total)
    with reopened(db) as memory:
        for n in range(1, total + 1):
            memory.archive(f"Derived from {n}: {child.message(n)['content']}", sources=[f"m{n}"])
        memory.catch_up()
    acks.unlink()
    points = ("erase.before_commit", "erase.committed", "erase.merged", "erase.forgotten", "erase.scrubbed")
    gone: set[int] = set()
    order = rng.sample(range(1, total + 1), total)
    todo: list[int] = []
    for n, plan in zip(order, server.kills("erase", points, 0.06, rng), strict=False):
        todo.append(n)
        server.run(job="erase", db=str(db), acks=str(acks), keys=[child.key_of(n)], **{**plan, "nth": 1})
        with reopened(db) as memory:
            there = memory.message(child.key_of(n)) is not None
            derived = [p for p in memory.records.archival.after(0) if p.sources == (f"m{n}",)]
            assert bool(derived) == there
            gone |= set() if there else {n}
            left = set(range(1, total + 1)) - gone
            check(memory, left, left, rng)
            for said in (child.message(one)["content"] for one in gone):
                assert not any(said in h.text for h in memory.search(said))
        if not there:
            # Opening it again has finished what was killed.
            assert_no_byte(db, child.message(n)["content"])
    assert {f"erased {child.key_of(n)}" for n in gone} >= set(acked(acks))
    server.run(job="erase", db=str(db), acks=str(acks), keys=[child.key_of(n) for n in todo])
    with reopened(db) as memory:
        left = set(range(1, total + 1)) - set(todo)
        check(memory, left, left, rng)
    for n in todo:
        assert_no_byte(db, child.message(n)["content"])


def assert_no_byte(db: Path, text: str) -> None:
    """The text, and its rarest word, stand in no byte of any file."""
    rare = text.split("batch ")[1].split(":")[0]
    files = [db, *db.parent.glob(f"{db.name}-*"), *Path(f"{db}-index").glob("*")]
    for path in files:
        if path.is_file():
            data = path.read_bytes()
            assert text.encode() not in data, path
            assert rare.encode() not in data, (path, rare)


@pytest.mark.parametrize("number", range(TESTS["reembed"]))
def test_killed_while_reembedding(server: Server, tmp_path: Path, number: int) -> None:
    rng = random.Random(f"{SEED} reembed {number}")
    db, acks = tmp_path / "m.db", tmp_path / "acks"
    total = 40
    server.run(job="ingest", db=str(db), acks=str(acks), first=1, last=total)
    everything = set(range(1, total + 1))
    points = ("reembed.batch", "reembed.before_switch", "reembed.switched")
    for step, plan in enumerate(server.kills("reembed", points, 0.08, rng)):
        server.run(job="reembed", db=str(db), acks=str(acks), dim=(32, 64, 48)[step % 3], **{**plan, "nth": 1})
        with reopened(db) as memory:
            check(memory, everything, everything, rng)
    server.run(job="reembed", db=str(db), acks=str(acks), dim=32)
    assert dim_of(db) == 32
    with reopened(db) as memory:
        check(memory, everything, everything, rng)
        assert memory.store.db.rows("SELECT count(*) FROM embedders")[0][0] == 1


def test_killed_while_importing(server: Server, tmp_path: Path) -> None:
    rng = random.Random(f"{SEED} import")
    db, acks, archive = tmp_path / "m.db", tmp_path / "acks", tmp_path / "a.jsonl"
    total = 40
    server.run(job="ingest", db=str(db), acks=str(acks), first=1, last=total)
    with reopened(db) as memory:
        archive.write_text("".join(f"{line}\n" for line in export_lines(memory)), encoding="utf-8", newline="\n")
    points = ("import.before_commit", "import.committed", "attach.before_commit", "snapshot.before_rename")
    everything = set(range(1, total + 1))
    for n, plan in enumerate(server.kills("import", points, 0.06, rng)):
        agent = f"copy-{n}"
        acks.unlink(missing_ok=True)
        job = {"job": "import", "db": str(db), "acks": str(acks), "archive": str(archive), "agent": agent}
        server.run(**job, **{**plan, "nth": 1})
        with reopened(db, agent) as memory:
            count = memory.stats()["messages"]
            assert count in ((total,) if acked(acks) else (0, total))
            full = everything if count else set()
            check(memory, full, full, rng)


def test_enough_are_killed(capsys: pytest.CaptureFixture[str]) -> None:
    """Last in this file: how many died in this process, and where."""
    with capsys.disabled():
        print(f"\n{KILLS.total()} processes died by SIGKILL:")
        for where, count in sorted(KILLS.items()):
            print(f"  {count:4d}  {where}")
    assert sum(TESTS[kind] * EACH[kind] for kind in TESTS) >= WANTED
