"""Processes at one file: two insert and delete, this one searches, all with indexes that real threads build."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from agentmem.store import dense
from tests.store.test_dense import Side

ROOT = Path(__file__).parents[2]
CHILD = """
import sys
from agentmem.store import dense
dense.IVF_MIN, dense.SMALL_BYTES, dense.SNAPSHOT_MIN_CHANGES, dense.LARGE_SHARE = 40, 0, 20, 0.0
from tests.store.test_dense import Side
side = Side(sys.argv[1], "ivf")
first = int(sys.argv[2])
mine = []
for n in range(first, first + 300):
    (number,) = side.add(n)
    mine.append(number)
    hits = side.search(n, 1)
    assert hits[0][1] > 0.9999, (n, hits)
    if n % 10 == 9:
        gone = side.agent.vectors.owners([mine[-5]])[mine[-5]][1]
        side.remove(gone)
        assert mine[-5] not in [i for i, _ in side.search(n - 4, 2000)]
        print(mine[-5], flush=True)
    if n % 100 == 0:
        side.index.forget()
side.index.write_if_due(closing=True)
side.store.close()
"""


@pytest.mark.slow
def test_two_insert_while_a_third_searches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("IVF_MIN", 40), ("SMALL_BYTES", 0), ("SNAPSHOT_MIN_CHANGES", 20)):
        monkeypatch.setattr(dense, name, value)
    path = tmp_path / "m.db"
    me = Side(path, "ivf")
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path), str(first)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        for first in (1000, 2000)
    ]
    seen = 0
    try:
        while any(child.poll() is None for child in children):
            before = set(me.agent.vectors.ids("recall"))
            gone = set(me.agent.vectors.removed_after(0))
            found = {i for i, _ in me.search(1001, 2000)}
            after = set(me.agent.vectors.ids("recall"))
            # A search that had to wait may also see a vector that came after `before` and went before `after`.
            passing = set(me.agent.vectors.removed_after(0)) - gone
            assert not found & gone
            assert before & after <= found
            assert found <= before | after | passing
            seen = max(seen, len(found))
            time.sleep(0.01)
    except BaseException:
        # Nobody else's test is to meet them.
        for child in children:
            child.kill()
            child.communicate()
        me.store.close()
        raise
    deleted = set()
    for child in children:
        out, _ = child.communicate(timeout=60)
        assert child.returncode == 0
        deleted |= {int(line) for line in out.split()}
    assert seen > 0 and len(deleted) == 60
    final = [i for i, _ in me.search(1, 2000)]
    assert len(final) == 540 and not set(final) & deleted
    again = Side(path, "ivf")
    assert [i for i, _ in again.search(1, 2000)] == final
    assert again.notices == [] and me.notices == []
    again.store.close()
    me.store.close()


def test_a_program_that_ends_without_closing_does_not_wait_for_the_build(tmp_path: Path) -> None:
    program = """
import threading
from agentmem.store.background import Background
background, begun = Background(), threading.Event()
def job():
    begun.set()
    while not background.stopping():
        threading.Event().wait(0.001)
    print("stopped", flush=True)
background.submit(job)
background.submit(lambda: print("never"))
begun.wait()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("stopped\n", "")
