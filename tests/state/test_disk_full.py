"""A full disk: what was acknowledged stays, nothing is half-written, the reason is said, and it goes on afterwards.

Really full where a small file system can be mounted; else by a limit on the size of files, and by SQLite's page limit.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from agentmem.backends.hashing_embedder import HashingEmbedder
from agentmem.errors import StoreError, StoreFullError
from agentmem.inspecting import verify
from agentmem.memory import Memory
from agentmem.store import dense

SMALL = {"window_tokens": 400, "keep_last": 2}
AGENTMEM = [sys.executable, "-m", "agentmem.cli"]
Make = Callable[..., Memory]


def said(n: int) -> str:
    return f"Item {n}: the harbour weather was number {n * 7919}. " + f"It went on and on, as on day {n}. " * 20


def lines(count: int) -> list[str]:
    return [json.dumps({"role": "user", "content": said(n), "id": f"k{n}"}) + "\n" for n in range(count)]


def fill(memory: Memory, most: int = 5000) -> int:
    """Observe until the disk is full; how many were acknowledged."""
    for n in range(most):
        try:
            memory.observe("user", said(n), key=f"k{n}")
        except StoreFullError as e:
            assert "disk is full" in e.message and e.hint
            return n
    raise AssertionError("it never became full")


def assert_all_there(memory: Memory, count: int) -> None:
    stored = {m.key: m.content for m in memory.records.recall.since(1)}
    # A message whose flush found no room is stored, though `observe` raised: never the other way round.
    assert set(stored) >= {f"k{n}" for n in range(count)}
    assert len(stored) <= count + 1
    assert all(content == said(int((key or "k0")[1:])) for key, content in stored.items())
    assert verify(memory) == []


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of six megabytes: SQLite's write-ahead log alone comes to four."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)], capture_output=True, check=False
    ).returncode == 0  # fmt: skip
    if not mounted:
        pytest.skip("can't mount a small file system here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_file_system(tiny: Path) -> None:
    memory = Memory(tiny / "m.db", embedder=HashingEmbedder(64), **SMALL)
    count = fill(memory)
    assert count > 40
    # It goes on reading, and says it again when it is to write.
    assert_all_there(memory, count)
    with pytest.raises(StoreError):
        for n in range(10):
            memory.archive(f"{n} " + "text " * 2000)
    assert memory.message("k3") is not None
    memory.close()
    # Opened again on the full disk: what is there can be read.
    with Memory(tiny / "m.db", embedder="none", create=False, **SMALL) as again:
        assert_all_there(again, count)
        assert again.search("number 7919 harbour", top_k=3)


def test_it_works_again_once_there_is_space(tiny: Path) -> None:
    ballast = tiny / "ballast"
    ballast.write_bytes(b"x" * 3_000_000)
    with Memory(tiny / "m.db", embedder=HashingEmbedder(64), **SMALL) as memory:
        count = fill(memory)
        ballast.unlink()
        # The same object, no restart; and the key of what failed is free, or names the stored message.
        memory.observe("user", said(count), key=f"k{count}")
        memory.observe("user", said(count + 1), key=f"k{count + 1}")
        assert_all_there(memory, count + 2)
        assert memory.search(said(count + 1)[:60], top_k=1)[0].key == f"k{count + 1}"
        assert verify(memory) == []


@pytest.mark.slow
def test_an_ingest_into_a_full_file_system(tiny: Path) -> None:
    rows = [{"role": "user", "content": said(n), "id": f"k{n}"} for n in range(3000)]
    with Memory(tiny / "m.db", embedder=HashingEmbedder(64), **SMALL) as memory:
        done: list[int] = []
        with pytest.raises(StoreFullError):
            memory.ingest(rows, progress=done.append)
        stored = memory.records.recall.since(1)
        assert len(stored) >= (done[-1] if done else 0)
        assert [m.key for m in stored] == [f"k{n}" for n in range(len(stored))]
        assert verify(memory) == []


@pytest.mark.slow
def test_the_command_says_why_and_exits_1(tiny: Path, tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    history.write_text("".join(lines(3000)))
    done = subprocess.run(
        [*AGENTMEM, "ingest", str(history), "--db", str(tiny / "m.db"), "--embedder", "hash", "--json"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and done.stdout == ""
    assert "disk is full" in done.stderr and "hint: free space" in done.stderr and "Traceback" not in done.stderr
    checked = subprocess.run(
        [*AGENTMEM, "verify", "--db", str(tiny / "m.db")], capture_output=True, text=True, timeout=60, check=False
    )
    assert (checked.returncode, checked.stdout) == (0, "all is well\n")


def test_no_room_for_the_snapshot_loses_nothing(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index file is derived: that it can't be written is said, and nothing that is durable fails for it."""
    monkeypatch.setattr(dense, "SNAPSHOT_MIN_CHANGES", 1)
    with Memory(tiny / "m.db", embedder=HashingEmbedder(512), **SMALL) as memory:
        for n in range(40):
            memory.observe("user", f"Item {n}: the harbour weather was number {n * 7919}.", key=f"k{n}")
        memory.catch_up()
        ballast = tiny / "ballast"
        with suppress(OSError), ballast.open("wb", buffering=0) as f:
            while True:
                f.write(b"x" * 4096)
        assert memory.search("harbour weather number 7919", top_k=1)[0].key == "k1"
        assert any("index not saved" in n for n in memory.notices)
        memory.close()
    assert not list(Path(f"{tiny / 'm.db'}-index").glob("*.tmp"))
    ballast.unlink()
    with Memory(tiny / "m.db", embedder=HashingEmbedder(512), **SMALL) as again:
        assert again.search("harbour weather number 7919", top_k=1)[0].key == "k1"
        assert verify(again) == []
        assert list(Path(f"{tiny / 'm.db'}-index").glob("*.index"))


def _limit_files(max_bytes: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, max_bytes))


@pytest.mark.slow
def test_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    """EFBIG is no ENOSPC, but nothing is lost by it either."""
    history = tmp_path / "history.jsonl"
    history.write_text("".join(lines(1500)))
    command = [*AGENTMEM, "ingest", str(history), "--db", str(tmp_path / "m.db"), "--embedder", "hash", "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, preexec_fn=lambda: _limit_files(1_000_000)
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr
    # Without the limit it goes on from there, by key.
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    report = json.loads(done.stdout)
    assert report["stored"] + report["skipped"] == 1500 and not report["conflicts"]
    with Memory(tmp_path / "m.db", embedder="none", create=False) as memory:
        assert [m.key for m in memory.records.recall.since(1)] == [f"k{n}" for n in range(1500)]
        assert verify(memory) == []


@pytest.mark.parametrize("step", ["observe", "ingest", "archive", "core", "log"])
def test_a_full_database_undoes_each_step_whole(memory_factory: Make, step: str) -> None:
    """SQLite's own limit: the same error at each step that writes, and the same state as before."""
    memory = memory_factory(**SMALL)
    for n in range(10):
        memory.observe("user", said(n), key=f"k{n}")
    memory.core["human"].max_tokens = 100_000
    db = memory.store.db
    pages = db.row("PRAGMA page_count")
    assert pages is not None
    before = memory.records.counters(), memory.core["human"].value
    db.run(f"PRAGMA max_page_count = {pages[0]}")
    big = "many words of no use at all " * 3000
    steps: dict[str, Callable[[], object]] = {
        "observe": lambda: memory.observe("user", big),
        "ingest": lambda: memory.ingest([{"role": "user", "content": big}]),
        "archive": lambda: memory.archive(big),
        "core": lambda: memory.core["human"].append(big),
        "log": lambda: memory.log("something", {"text": big}),
    }
    with pytest.raises(StoreFullError):
        steps[step]()
    assert (memory.records.counters(), memory.core["human"].value) == before
    assert verify(memory) == []
    db.run("PRAGMA max_page_count = 1073741823")
    steps[step]()
    assert verify(memory) == []
    assert (memory.records.counters(), memory.core["human"].value) != before


def test_a_close_without_room_for_the_log(memory_factory: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the snapshot nor the note about it can be written: closing still closes."""
    monkeypatch.setattr(dense, "SNAPSHOT_MIN_CHANGES", 1)

    def refuse(*_: object) -> None:
        raise StoreError("no room")

    memory = memory_factory()
    memory.observe("user", "The harbour is cold.")
    memory.catch_up()
    monkeypatch.setattr(dense, "write_snapshot", refuse)
    monkeypatch.setattr(memory, "log", lambda *_: refuse())
    assert memory.search("harbour")[0].text == "The harbour is cold."
    memory.observe("user", "The lighthouse is dark.")
    assert memory.search("lighthouse")[0].text == "The lighthouse is dark."
    assert any("no room" in n for n in memory.notices)
    memory.close()
