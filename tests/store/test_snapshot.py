"""The index snapshot: verifies whole or not at all, and a crash leaves the old one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentmem import crashpoints
from agentmem.errors import IndexDamagedError, StoreError
from agentmem.store.snapshot import SnapshotHead, open_snapshot, write_snapshot
from tests.crashing import Crash

HEAD = SnapshotHead(index="numpy", dim=4, embedder_id=1, generation=25, last_vector=10)
NEWER = SnapshotHead("numpy", 4, 1, 26, 11)
PARTS = [("head", b"{}"), ("ids", bytes(range(20))), ("bulk.0", bytes(range(20, 40)))]
OTHER = [("head", b"{}" * 9), ("bulk.0", b"")]


@pytest.fixture
def crash_at() -> Iterator[list[str]]:
    points: list[str] = []

    def hook(name: str) -> None:
        if name in points:
            raise Crash(name)

    crashpoints.install(hook)
    yield points
    crashpoints.install(None)


def read(path: Path) -> tuple[SnapshotHead, list[tuple[str, bytes]]] | None:
    """All of a file, checked whole."""
    snapshot = open_snapshot(path)
    if snapshot is None:
        return None
    with snapshot:
        snapshot.verify()
        return snapshot.head, list(snapshot.items())


def test_reads_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a.index"
    assert read(path) is None
    for parts in ([], PARTS, OTHER, [("a\n", b"\n\n{}\n")]):
        assert write_snapshot(path, HEAD, parts)
        assert read(path) == (HEAD, parts)
    assert [p.name for p in path.parent.iterdir()] == ["a.index"]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    head=st.builds(SnapshotHead, st.text(max_size=8), *[st.integers(0, 2**40)] * 4),
    parts=st.dictionaries(st.text(max_size=6), st.binary(max_size=300), max_size=4),
)
def test_any_head_and_parts(tmp_path: Path, head: SnapshotHead, parts: dict[str, bytes]) -> None:
    write_snapshot(tmp_path / "a.index", head, parts.items())
    assert read(tmp_path / "a.index") == (head, list(parts.items()))


def damaged(path: Path, data: bytes) -> bool:
    path.write_bytes(data)
    try:
        read(path)
    except IndexDamagedError:
        return True
    return False


def test_a_bulk_part_is_read_unchecked_and_found_by_verify(tmp_path: Path) -> None:
    path = tmp_path / "a.index"
    write_snapshot(path, HEAD, PARTS)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(PARTS[2][1], bytes(20)))
    with open_snapshot(path) as snapshot:  # type: ignore[union-attr]
        assert snapshot.bulky and snapshot["bulk.0"] == bytes(20)
        assert snapshot["ids"] == PARTS[1][1]
        snapshot.verify(lambda: True)
        with pytest.raises(IndexDamagedError, match=r"part bulk\.0"):
            snapshot.verify()
    path.write_bytes(whole.replace(PARTS[1][1], bytes(20)))
    with open_snapshot(path) as snapshot, pytest.raises(IndexDamagedError, match="part ids"):  # type: ignore[union-attr]
        snapshot["ids"]


def test_an_open_one_outlives_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.index"
    write_snapshot(path, HEAD, PARTS)
    snapshot = open_snapshot(path)
    assert snapshot is not None
    write_snapshot(path, NEWER, OTHER)
    path.unlink()
    snapshot.verify()
    assert list(snapshot.items()) == PARTS
    snapshot.close()
    snapshot.close()


def test_the_format_before_is_none_rather_than_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.index"
    path.write_bytes(b"agentmem-index-1 " + b"0" * 64 + b"\n{}\n")
    assert open_snapshot(path) is None


def test_a_file_that_is_not_wanted_any_more_gets_no_name(tmp_path: Path) -> None:
    path = tmp_path / "a.index"
    write_snapshot(path, HEAD, PARTS)
    assert not write_snapshot(path, NEWER, OTHER, lambda: nullcontext(False))
    assert read(path) == (HEAD, PARTS)
    assert write_snapshot(path, NEWER, OTHER, lambda: nullcontext(True))
    assert read(path) == (NEWER, OTHER)
    assert [p.name for p in tmp_path.iterdir()] == ["a.index"]


def test_parts_that_end_in_an_error_leave_nothing(tmp_path: Path) -> None:
    def parts() -> Iterator[tuple[str, bytes]]:
        yield PARTS[0]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_snapshot(tmp_path / "a.index", HEAD, parts())
    assert list(tmp_path.iterdir()) == []


def test_any_flipped_bit_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.index"
    write_snapshot(path, HEAD, PARTS)
    whole = path.read_bytes()
    for at in range(len(whole)):
        for bit in (0, 5, 7):
            flipped = bytearray(whole)
            flipped[at] ^= 1 << bit
            assert damaged(path, bytes(flipped)), f"byte {at} ({whole[at : at + 1]!r}), bit {bit}"


def test_any_changed_digit_of_the_head_is_found(tmp_path: Path) -> None:
    # A generation or last vector that is too high would hide what came or went in between.
    path = tmp_path / "a.index"
    write_snapshot(path, HEAD, PARTS)
    whole = path.read_bytes()
    table = whole.index(b'{"index"')
    changes = [(at, new) for at in range(table, len(whole)) if whole[at : at + 1].isdigit() for new in b"0123456789"]
    assert changes
    for at, new in changes:
        if whole[at] != new:
            assert damaged(path, whole[:at] + bytes([new]) + whole[at + 1 :]), f"byte {at} made {chr(new)}"


def test_any_cut_and_any_addition_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.index"
    write_snapshot(path, HEAD, PARTS)
    whole = path.read_bytes()
    for length in range(len(whole)):
        assert damaged(path, whole[:length]), f"the first {length} of {len(whole)} bytes"
    for more in (b"\0", b"\n", b" "):
        assert damaged(path, whole + more)
        assert damaged(path, more + whole)


def test_a_folder_in_its_place_is_damage(tmp_path: Path) -> None:
    (tmp_path / "a.index").mkdir()
    with pytest.raises(IndexDamagedError):
        open_snapshot(tmp_path / "a.index")


@pytest.mark.parametrize("point", ["snapshot.half_written", "snapshot.before_rename"])
def test_a_crash_leaves_the_old_file_whole(tmp_path: Path, crash_at: list[str], point: str) -> None:
    path = tmp_path / "a.index"
    write_snapshot(path, HEAD, PARTS)
    before = path.read_bytes()
    crash_at.append(point)
    with pytest.raises(Crash):
        write_snapshot(path, NEWER, OTHER)
    assert path.read_bytes() == before
    assert read(path) == (HEAD, PARTS)
    crash_at.clear()
    write_snapshot(path, NEWER, OTHER)
    assert read(path) == (NEWER, OTHER)


def test_what_can_not_be_written_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match="can't be written") as e:
        write_snapshot(tmp_path / "file" / "a.index", HEAD, PARTS)
    assert "nothing is lost" in e.value.hint
    (tmp_path / "b.index" / "full").mkdir(parents=True)
    with pytest.raises(StoreError):
        write_snapshot(tmp_path / "b.index", HEAD, PARTS)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.index", "file"]
