"""Several processes on one file: nothing lost, nothing twice, nothing half, and a deletion holds for all at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from agentmem.backends.hashing_embedder import HashingEmbedder
from agentmem.inspecting import verify
from agentmem.memory import Memory
from tests.forking import Forked

SMALL = {"window_tokens": 400, "keep_last": 2}
HEAD = """
import sys
from agentmem.backends.hashing_embedder import HashingEmbedder
from agentmem.memory import Memory
from agentmem.store import dense
dense.SNAPSHOT_MIN_CHANGES, dense.SNAPSHOT_SHARE = 4, 0.0
db, agent, who = sys.argv[1:4]
memory = Memory(db, agent, embedder=HashingEmbedder(64), window_tokens=400, keep_last=2)
print("ready", flush=True)
sys.stdin.readline()
"""
OBSERVE = """
for n in range(40):
    m = memory.observe("user", f"{who} says line {n}: the quick brown fox met {n * 31} lazy dogs.", key=f"{who}:{n}")
    assert m.key == f"{who}:{n}"
    if n % 7 == 0:
        assert any(h.key == m.key for h in memory.search(m.content, top_k=8))
memory.close()
"""
INGEST = """
for first in range(0, 80, 16):
    memory.ingest([{"role": "user", "content": f"{who} says line {n}: the quick brown fox met {n * 31} lazy dogs.",
                    "id": f"{who}:{n}"} for n in range(first, first + 16)])
memory.close()
"""


def start(code: str, *args: object) -> Forked:
    """A process that waits, ready, for a line on its standard input."""
    process = Forked(HEAD + code, *args)
    assert hear(process) == "ready"
    return process


def tell(process: Forked, line: str = "go") -> None:
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def hear(process: Forked) -> str:
    return process.stdout.readline().rstrip("\n")


def end(process: Forked) -> None:
    _, err = process.communicate()
    assert process.returncode == 0, err


def reopened(db: Path, agent: str) -> Memory:
    return Memory(db, agent, embedder=HashingEmbedder(64), **SMALL)


@pytest.mark.parametrize(("code", "count"), [(OBSERVE, 40), (INGEST, 80)])
@pytest.mark.parametrize("agents", [("one", "one"), ("one", "two")])
def test_two_writers(tmp_path: Path, code: str, count: int, agents: tuple[str, str]) -> None:
    db = tmp_path / "m.db"
    writers = [start(code, db, agent, who) for agent, who in zip(agents, ("A", "B"), strict=True)]
    for writer in writers:
        tell(writer)
    for writer in writers:
        end(writer)
    for agent in dict.fromkeys(agents):
        mine = [who for a, who in zip(agents, ("A", "B"), strict=True) if a == agent]
        with reopened(db, agent) as memory:
            assert verify(memory) == []
            stored = memory.records.recall.since(1)
            assert [m.id for m in stored] == list(range(1, count * len(mine) + 1))
            assert sorted(m.key or "" for m in stored) == sorted(f"{w}:{n}" for w in mine for n in range(count))
            for who in mine:
                # Each writer's own order stands.
                own = [int((m.key or "").split(":")[1]) for m in stored if (m.key or "").startswith(who)]
                assert own == list(range(count))
                said = f"{who} says line 9: the quick brown fox met 279 lazy dogs."
                assert f"{who}:9" in [h.key for h in memory.search(said, top_k=8)]
            numbers = [e.number for e, _ in memory.records.journal.epochs()]
            assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) > 2
            assert [e.number for e in memory.events()] == list(range(1, len(memory.events()) + 1))


def test_two_writers_open_a_new_file_at_once(tmp_path: Path) -> None:
    code = "import sys\nsys.stdin.readline()\n" + HEAD.replace("sys.stdin.readline()", "") + "memory.close()\n"
    for n in range(3):
        db = tmp_path / f"m{n}.db"
        processes = [Forked(code, db, "one", w) for w in range(2)]
        for p in processes:
            tell(p)
        for p in processes:
            end(p)
        with reopened(db, "one") as memory:
            assert verify(memory) == [] and memory.store.agent_names() == ["one"]
            assert list(memory.core) == ["persona", "human"]


FLUSH_STEP = """
for line in sys.stdin:
    n = int(line)
    memory.observe("user", f"{who} {n} " + "speaks of many things at length today " * 4, key=f"{who}:{n}")
    epoch, queue = memory.pager.state()
    print(epoch.number, epoch.first_message, queue[-1].id, flush=True)
memory.close()
"""


def test_one_flushes_while_another_appends(tmp_path: Path) -> None:
    db = tmp_path / "m.db"
    a, b = start(FLUSH_STEP, db, "one", "A"), start(FLUSH_STEP, db, "one", "B")
    tell(a), tell(b)
    seen = (0, 0, 0)
    for n in range(24):
        for process in (a, b):
            tell(process, str(n))
        for process in (a, b):
            hear(process)
        tell(a, str(100 + n))
        number, first, last = map(int, hear(a).split())
        assert (number, first, last) >= seen and first <= last
        seen = (number, first, last)
    end(a), end(b)
    with reopened(db, "one") as memory:
        assert verify(memory) == []
        assert memory.stats()["messages"] == 72
        epochs = [e for e, _ in memory.records.journal.epochs()]
        assert len(epochs) > 3
        for before, after in pairwise(epochs):
            assert after.number == before.number + 1 and after.summary_to == after.first_message - 1
            assert after.first_message > before.first_message
        assert len(memory.events("page_out")) == len(epochs) - 1


WRITE_ON = """
import select
n = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    memory.observe("user", f"{who} {n} " + "speaks of many things at length today " * 3, key=f"{who}:{n}")
    n += 1
memory.close()
"""


def test_a_reader_sees_no_half_flush(tmp_path: Path) -> None:
    db = tmp_path / "m.db"
    writer = start(WRITE_ON, db, "one", "A")
    states: set[int] = set()
    try:
        # The first epoch begins with the first look; after that a look writes nothing.
        with reopened(db, "one") as memory:
            memory.pager.state()
        tell(writer)
        # However slow the machine is: until several flushes happened under the reader's eyes.
        give_up = time.monotonic() + 60
        while len(states) < 4 and time.monotonic() < give_up:
            with reopened(db, "one") as memory:
                for _ in range(10):
                    # As one state of the file: an epoch, its event and its queue belong together.
                    with memory.store.db.read():
                        epoch, queue = memory.pager.state()
                        flushes = memory.records.journal.last_event("page_out")
                        last = memory.records.recall.last_id()
                    assert [m.id for m in queue] == list(range(epoch.first_message, last + 1))
                    if epoch.number > 1:
                        assert flushes is not None and flushes.payload["epoch"] == epoch.number
                        assert epoch.summary_to == epoch.first_message - 1 == flushes.payload["to"]
                        assert epoch.summary
                    # And read by read, as a turn does it.
                    epoch, queue = memory.pager.state()
                    assert [m.id for m in queue] == list(range(epoch.first_message, epoch.first_message + len(queue)))
                    states.add(epoch.number)
        assert writer.poll() is None
    finally:
        # Another line ends it.
        tell(writer)
        end(writer)
    assert len(states) >= 4
    with reopened(db, "one") as memory:
        assert verify(memory) == []


ERASER = """
for line in sys.stdin:
    memory.erase(key=line.strip())
    print("gone", flush=True)
memory.close()
"""


def test_what_one_deletes_no_search_of_another_returns(tmp_path: Path) -> None:
    db = tmp_path / "m.db"
    with reopened(db, "one") as memory:
        memory.ingest([
            {"role": "user", "content": f"The secret word of house {n} is zeppelin{n}.", "id": f"k{n}"}
            for n in range(12)
        ])  # fmt: skip
        eraser = start(ERASER, db, "one", "A")
        tell(eraser)
        for n in range(12):
            asked = f"What is the secret word of house {n}, zeppelin{n}?"
            assert memory.search(asked, top_k=1)[0].key == f"k{n}"
            # It stands in this process's queue or index, whichever.
            memory.render(query=asked)
            tell(eraser, f"k{n}")
            assert hear(eraser) == "gone"
            assert f"k{n}" not in [h.key for h in memory.search(asked, top_k=50)]
            prompt = memory.render(query="What else is there?")
            assert not any(f"zeppelin{n}." in m.content for m in prompt.messages)
            assert f"k{n}" not in memory.page_in(asked, max_tokens=2000).keys
        end(eraser)
        assert verify(memory) == []


def test_threads_share_a_memory(memory_factory: Callable[..., Any]) -> None:
    memory = memory_factory(**SMALL)
    errors: list[BaseException] = []

    def work(who: str) -> None:
        try:
            for n in range(15):
                said = f"{who} says line {n}: the quick brown fox met {n * 31} lazy dogs."
                memory.observe("user", said, key=f"{who}:{n}")
                # Four lines differ in one letter alone, so which is best may vary; its own vector must be there.
                found = {h.key: h for h in memory.search(said, top_k=12, explain=True)}
                assert found[f"{who}:{n}"].parts["cosine"] > 0.999
                memory.render(query=said)
        except BaseException as e:  # noqa: BLE001
            errors.append(e)

    threads = [threading.Thread(target=work, args=(w,)) for w in "ABCD"]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert errors == []
    epoch, queue = memory.pager.state()
    assert [m.id for m in queue] == list(range(epoch.first_message, 61))
    assert verify(memory) == []
    assert memory.stats()["messages"] == 60


def test_a_rolled_back_step_leaves_nothing_in_the_index(memory_factory: Callable[..., Any]) -> None:
    """A search within a transaction sees what it wrote; undone, its vectors' ids are given to other records."""
    memory = memory_factory(index="numpy")
    memory.archive("The first fact is about lanterns.")
    memory.search("lanterns", tier="archival")
    with pytest.raises(ZeroDivisionError), memory.store.write():
        memory.archive("A ghost fact about zeppelins.")
        assert memory.search("zeppelins", tier="archival")[0].text.startswith("A ghost")
        raise ZeroDivisionError
    memory.archive("The second fact is about harbours.")
    found = memory.search("The second fact is about harbours.", tier="archival", explain=True)
    assert found[0].text.startswith("The second") and found[0].parts["cosine"] > 0.99
    assert verify(memory) == []
    vectors = memory.records.vectors
    import numpy as np

    ids, rows = vectors.load("archival", 0)
    for one, row in zip(ids, rows, strict=True):
        best = memory.records.dense["archival"].search(np.asarray(row), memory.store.embedder().id, top_k=1)
        assert best[0][0] == one and best[0][1] > 0.999


def test_a_rolled_back_step_leaves_nothing_in_the_snapshot(
    memory_factory: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from agentmem.store import dense

    monkeypatch.setattr(dense, "SNAPSHOT_MIN_CHANGES", 1)
    monkeypatch.setattr(dense, "SNAPSHOT_SHARE", 0.0)
    memory = memory_factory()
    memory.archive("The first fact is about lanterns.")
    memory.search("lanterns", tier="archival")
    file = memory.records.dense["archival"].path
    before = file.read_bytes()
    with pytest.raises(ZeroDivisionError), memory.store.write():
        memory.archive("A ghost fact about zeppelins.")
        memory.search("zeppelins", tier="archival")
        raise ZeroDivisionError
    assert file.read_bytes() == before
    with memory.store.write():
        memory.archive("The second fact is about harbours.")
        memory.search("harbours", tier="archival")
        assert file.read_bytes() == before
    memory.search("harbours", tier="archival")
    assert file.read_bytes() != before
    assert verify(memory) == []
