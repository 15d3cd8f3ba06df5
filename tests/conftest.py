"""What every test stands on: no network, a home of its own, a clock that stands still, and memories that are closed."""

from __future__ import annotations

import functools
import gc
import importlib.metadata
import itertools
import logging
import os
import re
import shutil
import socket
import sqlite3
import ssl
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from ipaddress import ip_address
from pathlib import Path
from typing import Any

# Read when torch, FAISS and huggingface_hub are first imported, so before any test module is.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
from hypothesis import settings

settings.register_profile("local", deadline=None, max_examples=60)
settings.register_profile("ci", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

RAM = Path("/dev/shm")
NEEDED = 2 << 30
"""Bytes that must be free there: many times what a run holds at once."""
_connect, _connect_ex = socket.socket.connect, socket.socket.connect_ex
_sendto, _getaddrinfo = socket.socket.sendto, socket.getaddrinfo


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-slow", action="store_true", help="run the tests marked slow too")


@pytest.hookimpl(tryfirst=True)
def pytest_configure() -> None:
    _write_to_ram()
    # 25 ms for each client of a server, and none of these has a certificate.
    ssl.create_default_context = functools.cache(ssl.create_default_context)
    # What is installed stays so: to look through it takes 4 ms, and it is done for each strategy that is named.
    importlib.metadata.entry_points = functools.cache(importlib.metadata.entry_points)
    # Collecting makes a million objects and drops few: to look for garbage among them only takes time.
    gc.disable()


def _write_to_ram() -> None:
    """Have temporary files written to RAM: each commit waits for the disk, and the suite has some 150,000.

    Not where there is no such folder or little room in it, nor where TMPDIR or --basetemp says where they are to go.
    """
    if os.environ.get("TMPDIR") or not (RAM.is_dir() and os.access(RAM, os.W_OK)):
        return
    if shutil.disk_usage(RAM).free > NEEDED:
        # For this process, which has looked for its folder already, and for those that it starts.
        os.environ["TMPDIR"] = tempfile.tempdir = str(RAM)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--run-slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow: give --run-slow"))


def pytest_collection_finish() -> None:
    # What is there now stays to the end, so it need not be gone through again and again.
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_report_header() -> list[str]:
    faiss = _installed("faiss-cpu", "faiss-gpu-cu12")
    versions = f"SQLite {sqlite3.sqlite_version}, FAISS {faiss}, numpy {_installed('numpy')}"
    return [versions, f"temporary files: {tempfile.gettempdir()}"]


def _installed(*names: str) -> str:
    for name in names:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "not installed"


def _is_loopback(host: object) -> bool:
    if host in (None, "", "localhost", b"localhost"):
        return True
    try:
        return ip_address(host.decode() if isinstance(host, bytes) else str(host)).is_loopback
    except ValueError:
        return False


def _refuse(host: object) -> None:
    if not _is_loopback(host):
        raise RuntimeError(f"a test tried to reach {host!r}: only this machine's loopback is allowed in tests")


def _guard_address(sock: socket.socket, address: Any) -> None:
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        _refuse(address[0])


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(self: socket.socket, address: Any) -> None:
        _guard_address(self, address)
        _connect(self, address)

    def connect_ex(self: socket.socket, address: Any) -> int:
        _guard_address(self, address)
        return _connect_ex(self, address)

    def sendto(self: socket.socket, *args: Any) -> int:
        _guard_address(self, args[-1])
        return _sendto(self, *args)

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        _refuse(host)
        return _getaddrinfo(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket.socket, "connect_ex", connect_ex)
    monkeypatch.setattr(socket.socket, "sendto", sendto)
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.fixture(scope="session")
def _new_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes a folder, named after what it is for; to ask pytest for one takes the longer the more there are."""
    root, count = tmp_path_factory.mktemp("tests"), itertools.count()

    def make(name: str) -> Path:
        folder = root / f"{re.sub(r'[^a-z0-9_]+', '_', name, flags=re.IGNORECASE)[:40]}{next(count)}"
        folder.mkdir()
        return folder

    return make


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, _new_folder: Callable[[str], Path]) -> Iterator[Path]:
    """A folder of the test's own, gone once it has passed: it may lie in RAM."""
    failed = request.session.testsfailed
    folder = _new_folder(request.node.name)
    yield folder
    if request.session.testsfailed == failed:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, _new_folder: Callable[[str], Path]) -> None:
    home = _new_folder("home")
    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(home / name))
    for name in list(os.environ):
        if name.startswith("AGENTMEM_") or name == "OPENAI_API_KEY":
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch = sys.modules.get("torch")
    if torch is not None:
        _join_loggers()
        if torch.get_num_threads() != 1:
            torch.set_num_threads(1)


@functools.cache
def _join_loggers() -> None:
    """Six times a test, pytest attaches itself to each logger that keeps its lines to itself: forty are torch's."""
    for name, logger in logging.root.manager.loggerDict.items():
        if name.startswith("torch") and isinstance(logger, logging.Logger):
            logger.propagate = True


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self, now: datetime = datetime(2023, 5, 8, 12, 0, tzinfo=UTC)) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def tick(self, seconds: float = 1.0, **more: float) -> datetime:
        self.now += timedelta(**more) if more else timedelta(seconds=seconds)
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def memory_factory(tmp_path: Path, clock: Clock) -> Iterator[Callable[..., Any]]:
    """`memory_factory(agent=..., name="m.db", **settings)`: memories over the hashing embedder, closed at the end."""
    from agentmem.backends.hashing_embedder import HashingEmbedder
    from agentmem.memory import Memory

    made: list[Memory] = []

    def make(name: str = "m.db", **settings: Any) -> Memory:
        settings.setdefault("embedder", HashingEmbedder())
        settings.setdefault("clock", clock)
        made.append(Memory(tmp_path / name, **settings))
        return made[-1]

    yield make
    for memory in reversed(made):
        memory.close()
