"""The index snapshot: verifies whole or not at all, and a crash leaves the old one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentmem import crashpoints
from agentmem.errors import IndexDamagedError, StoreError
from agentmem.store.snapshot import SnapshotHead, read_snapshot, write_snapshot

HEAD = SnapshotHead(index="numpy", dim=4, embedder_id=1, generation=25, last_vector=10)
PAYLOAD = bytes(range(40))


class Crash(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def crash_at() -> Iterator[list[str]]:
    points: list[str] = []

    def hook(name: str) -> None:
        if name in points:
            raise Crash(name)

    crashpoints.install(hook)
    yield points
    crashpoints.install(None)


def test_reads_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a.index"
    assert read_snapshot(path) is None
    for payload in (b"", PAYLOAD, b"\n\n{}\n"):
        write_snapshot(path, HEAD, payload)
        assert read_snapshot(path) == (HEAD, payload)
    assert [p.name for p in path.parent.iterdir()] == ["a.index"]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(head=st.builds(SnapshotHead, st.text(max_size=8), *[st.integers(0, 2**40)] * 4), payload=st.binary(max_size=300))
def test_any_head_and_payload(tmp_path: Path, head: SnapshotHead, payload: bytes) -> None:
    write_snapshot(tmp_path / "a.index", head, payload)
    assert read_snapshot(tmp_path / "a.index") == (head, payload)


def damaged(path: Path, data: bytes) -> bool:
    path.write_bytes(data)
    try:
        read_snapshot(path)
    except IndexDamagedError:
        return True
    return False


def test_any_flipped_bit_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.index"
    write_snapshot(path, HEAD, PAYLOAD)
    whole = path.read_bytes()
    for at in range(len(whole)):
        for bit in (0, 5, 7):
            flipped = bytearray(whole)
            flipped[at] ^= 1 << bit
            assert damaged(path, bytes(flipped)), f"byte {at} ({whole[at : at + 1]!r}), bit {bit}"


def test_any_changed_digit_of_the_head_is_found(tmp_path: Path) -> None:
    # A generation or last vector that is too high would hide what came or went in between.
    path = tmp_path / "a.index"
    write_snapshot(path, HEAD, PAYLOAD)
    whole = path.read_bytes()
    head_end = len(whole) - len(PAYLOAD)
    changes = [(at, new) for at in range(head_end) if whole[at : at + 1].isdigit() for new in b"0123456789"]
    assert changes
    for at, new in changes:
        if whole[at] != new:
            assert damaged(path, whole[:at] + bytes([new]) + whole[at + 1 :]), f"byte {at} made {chr(new)}"


def test_any_cut_and_any_addition_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.index"
    write_snapshot(path, HEAD, PAYLOAD)
    whole = path.read_bytes()
    for length in range(len(whole)):
        assert damaged(path, whole[:length]), f"the first {length} of {len(whole)} bytes"
    for more in (b"\0", b"\n", b" "):
        assert damaged(path, whole + more)
        assert damaged(path, more + whole)


def test_a_folder_in_its_place_is_damage(tmp_path: Path) -> None:
    (tmp_path / "a.index").mkdir()
    with pytest.raises(IndexDamagedError):
        read_snapshot(tmp_path / "a.index")


@pytest.mark.parametrize("point", ["snapshot.half_written", "snapshot.before_rename"])
def test_a_crash_leaves_the_old_file_whole(tmp_path: Path, crash_at: list[str], point: str) -> None:
    path = tmp_path / "a.index"
    write_snapshot(path, HEAD, PAYLOAD)
    before = path.read_bytes()
    crash_at.append(point)
    with pytest.raises(Crash):
        write_snapshot(path, SnapshotHead("numpy", 4, 1, 26, 11), PAYLOAD * 2)
    assert path.read_bytes() == before
    assert read_snapshot(path) == (HEAD, PAYLOAD)
    crash_at.clear()
    write_snapshot(path, SnapshotHead("numpy", 4, 1, 26, 11), PAYLOAD * 2)
    assert read_snapshot(path) == (SnapshotHead("numpy", 4, 1, 26, 11), PAYLOAD * 2)


def test_what_can_not_be_written_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match="can't be written") as e:
        write_snapshot(tmp_path / "file" / "a.index", HEAD, PAYLOAD)
    assert "nothing is lost" in e.value.hint
    (tmp_path / "b.index" / "full").mkdir(parents=True)
    with pytest.raises(StoreError):
        write_snapshot(tmp_path / "b.index", HEAD, PAYLOAD)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.index", "file"]
