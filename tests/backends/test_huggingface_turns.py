"""Streams, threads, interrupts and time limits of the transformers backend: nobody waits for what nobody reads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from agentmem.backends.huggingface import HuggingFaceBackend
from agentmem.errors import BackendTimeoutError
from tests.backends.small_model import TEXTS, asked, hooked, one
from tests.models.tiny import folder, random_model


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_model(folder(tmp_path_factory.mktemp("models")) / "random")


@pytest.fixture
def backend(path: Path) -> Iterator[HuggingFaceBackend]:
    made = HuggingFaceBackend(str(path))
    yield made
    made.close()


def test_a_closed_stream_computes_no_further(backend: HuggingFaceBackend) -> None:
    passes: list[int] = []
    threads = set(threading.enumerate())
    with hooked(backend, lambda tokens, rows: passes.append(tokens)):
        chunks = backend.stream(asked("hello", max_tokens=500))
        for _ in range(3):
            next(chunks)
        counted = len(passes)
        chunks.close()  # type: ignore[attr-defined]
        assert list(chunks) == [] and len(passes) == counted < 20
    begun = [t.name for t in set(threading.enumerate()) - threads if not t.name.startswith("pytest")]
    assert begun == []


def test_an_abandoned_stream_holds_nobody_up(backend: HuggingFaceBackend) -> None:
    expected = [one(backend, asked(t)).text for t in TEXTS]
    open_streams = [backend.stream(asked(t)) for t in TEXTS]
    begun = [next(s).text for s in open_streams]
    assert [c.text for c in backend.generate([asked(t) for t in TEXTS])] == expected
    for text, first, stream in zip(expected, begun, open_streams, strict=True):
        assert first + "".join(c.text for c in stream) == text


def test_threads_get_what_they_would_alone(backend: HuggingFaceBackend) -> None:
    requests = [asked(f"{t} {n}", max_tokens=12) for n in range(3) for t in TEXTS]
    expected = [one(backend, r).text for r in requests]
    found: dict[int, str] = {}

    def ask(n: int) -> None:
        if n % 2:
            found[n] = one(backend, requests[n]).text
        else:
            found[n] = "".join(c.text for c in backend.stream(requests[n]))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(len(requests))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert [found[n] for n in range(len(requests))] == expected


def test_a_time_limit_is_of_computing_and_leaves_the_backend_usable(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    backend = HuggingFaceBackend(str(path), timeout_s=10)
    monkeypatch.setattr("agentmem.backends.local_model.time.monotonic", lambda: clock[0])

    def slow(tokens: int, rows: int) -> None:
        clock[0] += 3.0

    expected = one(backend, asked("hello")).text
    with hooked(backend, slow):
        for answers in (
            lambda: backend.generate([asked("hello")]),
            lambda: list(backend.stream(asked("hello"))),
        ):
            with pytest.raises(BackendTimeoutError, match=r"12\.0 s") as caught:
                answers()
            assert caught.value.retryable
        # A consumer that takes its time is not the model's.
        pieces = []
        for chunk in backend.stream(asked("hello", max_tokens=3)):
            clock[0] += 100
            pieces.append(chunk.text)
        assert expected.startswith("".join(pieces))
    assert one(backend, asked("hello")).text == expected


def test_an_interrupt_leaves_the_backend_usable(backend: HuggingFaceBackend) -> None:
    expected = one(backend, asked("hello again")).text

    def interrupt(tokens: int, rows: int) -> None:
        if tokens == 1:
            raise KeyboardInterrupt

    with hooked(backend, interrupt):
        for answers in (lambda: backend.generate([asked("hello again")]), lambda: list(backend.stream(asked("x")))):
            with pytest.raises(KeyboardInterrupt):
                answers()
    assert one(backend, asked("hello again")).text == expected
