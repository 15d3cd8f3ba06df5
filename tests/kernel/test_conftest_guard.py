"""The guard of the tests themselves: nothing outside this machine can be reached, nothing of the user's is touched."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "reach",
    [
        lambda: socket.create_connection(("192.0.2.1", 80), timeout=0.1),
        lambda: socket.getaddrinfo("example.org", 443),
        lambda: socket.socket().connect_ex(("192.0.2.1", 80)),
        lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53)),
    ],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_network_is_out_of_reach(reach: Callable[[], object]) -> None:
    with pytest.raises(RuntimeError, match="only this machine's loopback"):
        reach()


def test_loopback_is_reachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass


def test_the_home_is_a_temporary_one(tmp_path: Path) -> None:
    assert Path.home().is_relative_to(tmp_path.parent) and list(Path.home().iterdir()) == []
    assert not [n for n in os.environ if n.startswith("AGENTMEM_") or n == "OPENAI_API_KEY"]
