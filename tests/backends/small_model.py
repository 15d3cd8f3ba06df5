"""Asking a backend over a tiny random model, and watching the passes that its network makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from agentmem.types import ChatMessage, Completion, Request

if TYPE_CHECKING:
    from agentmem.backends.huggingface import HuggingFaceBackend

TEXTS = ("hello", "My sister Anna moved to Lisbon in May. " * 12, "東京は雨です。Olá, ça va?", "a b c " * 120)


def asked(text: str, **options: Any) -> Request:
    """A request of one user message."""
    return Request((ChatMessage("user", text),), **{"max_tokens": 32, **options})


def one(backend: HuggingFaceBackend, request: Request) -> Completion:
    """The answer to a request alone."""
    (completion,) = backend.generate([request])
    return completion


@contextmanager
def hooked(backend: HuggingFaceBackend, hook: Callable[[int, int], None]) -> Iterator[None]:
    """`hook(tokens of a row, rows)` before each pass; what it raises, the pass raises."""
    one(backend, asked("load", max_tokens=1, cache_salt="load"))
    assert backend._model is not None

    def before(module: Any, args: Any, kwargs: Any) -> None:
        rows, tokens = kwargs["input_ids"].shape
        hook(tokens, rows)

    handle = backend._model.network.network.register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
