"""A vLLM server's own numbers, from `GET /metrics` (Prometheus' text format, version 0.0.4)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from agentmem.backends.http import HttpClient
from agentmem.errors import BadCompletionError, BadRequestError

_LINE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+\S+)?\s*")
_LABEL = re.compile(r'\s*([a-zA-Z_]\w*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*,?')
_ESCAPE = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class ServerMetrics:
    """Requests running and waiting now; tokens looked up in the prefix cache and found there since the start;
    the cache's block size in tokens and its number of blocks. All engines of a server are summed up; None is what the
    server does not tell, and `missing` says why it tells nothing."""

    running: int | None = None
    waiting: int | None = None
    prefix_queries: int | None = None
    prefix_hits: int | None = None
    block_size: int | None = None
    num_blocks: int | None = None
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """One line of the format."""

    name: str
    labels: Mapping[str, str]
    value: float


def samples(text: str) -> Iterator[Sample]:
    """The samples of a text; comments, and lines that are none, are left out."""
    for line in text.splitlines():
        found = _LINE.fullmatch(line)
        if found is None:
            continue
        labels = {k: _ESCAPE.sub(_unescaped, v) for k, v in _LABEL.findall(found[2] or "")}
        try:
            yield Sample(found[1], labels, float(found[3]))
        except ValueError:
            continue


def read_metrics(http: HttpClient) -> ServerMetrics:
    """The server's numbers now. Raises BackendError when it can't be reached."""
    url = f"{http.root}/metrics"
    try:
        text = http.get_text(url)
    except (BadRequestError, BadCompletionError) as e:
        return ServerMetrics(missing=f"the server has no /metrics ({e.status or 'unreadable'})")
    found = [s for s in samples(text) if s.name.startswith("vllm:")]
    if not found:
        return ServerMetrics(missing="the server's /metrics holds no numbers of vLLM's")
    config: Mapping[str, str] = next((s.labels for s in found if s.name == "vllm:cache_config_info"), {})
    return ServerMetrics(
        _total(found, "vllm:num_requests_running"),
        _total(found, "vllm:num_requests_waiting"),
        _total(found, "vllm:prefix_cache_queries_total", "vllm:prefix_cache_queries"),
        _total(found, "vllm:prefix_cache_hits_total", "vllm:prefix_cache_hits"),
        # Prefixes are hashed in blocks of their own size where the engine's layers have different ones.
        _whole(config.get("hash_block_size")) or _whole(config.get("block_size")),
        _whole(config.get("num_gpu_blocks")),
    )


def _total(found: list[Sample], *names: str) -> int | None:
    for name in names:
        values = [s.value for s in found if s.name == name]
        if values:
            return int(sum(values))
    return None


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and int(text) > 0 else None


def _unescaped(found: re.Match[str]) -> str:
    return "\n" if found[1] == "n" else found[1]
