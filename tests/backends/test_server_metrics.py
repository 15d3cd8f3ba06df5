"""A vLLM server's /metrics, and servers that have none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem.backends.http import HttpClient
from agentmem.backends.openai_http import OpenAIBackend
from agentmem.backends.server_metrics import Sample, ServerMetrics, read_metrics, samples
from agentmem.errors import BackendUnavailableError
from tests.backends.fake_openai import METRICS, FakeOpenAI, Reply, tidy

# As vLLM 0.32 writes them, shortened; a second engine added.
TEXT = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="tiny"} 2.0
vllm:num_requests_running{engine="1",model_name="tiny"} 1.0
vllm:num_requests_waiting{engine="0",model_name="tiny"} 0.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="tiny",reason="capacity"} 7.0
vllm:prefix_cache_queries_total{engine="0",model_name="tiny"} 1.5e+03
vllm:prefix_cache_queries_created{engine="0",model_name="tiny"} 1.795271661160367e+09
vllm:prefix_cache_hits_total{engine="0",model_name="tiny"} 1280.0
vllm:external_prefix_cache_hits_total{engine="0",model_name="tiny"} 99.0
vllm:cache_config_info{block_size="128",cache_dtype="auto",engine="0",hash_block_size="None",num_gpu_blocks="8192"} 1.0
process_open_fds 41.0
"""


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as fake:
        yield fake


@pytest.fixture(autouse=True)
def _tidy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from tidy(monkeypatch)


def read(server: FakeOpenAI) -> ServerMetrics:
    return read_metrics(HttpClient(server.url, sleep=lambda s: None, max_retries=0, timeout_s=5.0))


def test_the_numbers_of_a_server(server: FakeOpenAI) -> None:
    server.defaults[METRICS] = Reply(TEXT.encode())
    assert read(server) == ServerMetrics(3, 0, 1500, 1280, 128, 8192)


def test_prefixes_hashed_in_blocks_of_another_size(server: FakeOpenAI) -> None:
    server.defaults[METRICS] = Reply(TEXT.replace('hash_block_size="None"', 'hash_block_size="16"').encode())
    assert read(server).block_size == 16


def test_what_is_not_told_is_none(server: FakeOpenAI) -> None:
    server.defaults[METRICS] = Reply(b'vllm:num_requests_running 1\nvllm:cache_config_info{block_size="None"} 1\n')
    assert read(server) == ServerMetrics(running=1)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply({"detail": "Not Found"}, 404), "no /metrics (404)"),
        (Reply({}, 401), "no /metrics (401)"),
        (Reply(b"llamacpp:requests_processing 1\n"), "no numbers of vLLM's"),
        (Reply(b"<html>\x00\xff"), "no numbers of vLLM's"),
        (Reply(b""), "no numbers of vLLM's"),
    ],
)
def test_a_server_without_them_says_why(server: FakeOpenAI, reply: Reply, reason: str) -> None:
    server.defaults[METRICS] = reply
    found = read(server)
    assert reason in found.missing
    assert (found.running, found.block_size) == (None, None)


def test_a_server_that_is_down_is_an_error(server: FakeOpenAI) -> None:
    server.defaults[METRICS] = Reply({}, 503)
    with pytest.raises(BackendUnavailableError):
        read(server)


def test_the_backends_block_size_is_asked_for_once(server: FakeOpenAI) -> None:
    server.defaults[METRICS] = Reply(TEXT.encode())
    backend = OpenAIBackend(f"{server.url}#tiny")
    assert (backend.block_size, backend.block_size) == (128, 128)
    assert len(server.asked(METRICS)) == 1
    assert backend.metrics().running == 3
    assert len(server.asked(METRICS)) == 2


LABEL = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]) | st.just("\n"), max_size=12)


@given(st.dictionaries(st.from_regex(r"[a-z_]\w{0,5}", fullmatch=True), LABEL, max_size=3), st.floats(allow_nan=False))
def test_any_labels_and_values_are_read_back(labels: dict[str, str], value: float) -> None:
    def quoted(text: str) -> str:
        return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    inner = ",".join(f'{k}="{quoted(v)}"' for k, v in labels.items())
    line = f"vllm:x{{{inner}}} {value!r}" if labels else f"vllm:x {value!r}"
    assert list(samples(f"# a comment\n{line}\n")) == [Sample("vllm:x", labels, value)]


@given(st.text(max_size=80))
def test_any_text_is_read_without_an_error(text: str) -> None:
    list(samples(text))
