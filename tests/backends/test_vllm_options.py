"""Options of the vLLM engine, as far as no vLLM is needed: names, spec strings, memory, grammars, errors, the loop."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem.backends import vllm_errors, vllm_options, vllm_sampling
from agentmem.backends.vllm_log import EngineLog
from agentmem.backends.vllm_loop import LoopThread
from agentmem.backends.vllm_options import GIB, check_names, check_values, cpu_cache_bytes, gpu_share
from agentmem.backends.vllm_watch import Watch
from agentmem.errors import BackendUnavailableError, ConfigError, MissingExtraError
from agentmem.registry import make_backend
from agentmem.spec_options import merged, split_target
from agentmem.types import ChatMessage, Request, ToolSpec

KNOWN = ("max_model_len", "max_num_seqs", "tensor_parallel_size", "model", "_private", "tokenizer")
TOOL = ToolSpec("find", "Finds.", {"type": "object", "properties": {"query": {"type": "string"}}})


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_vllm_the_install_line_is_told():
    with pytest.raises(MissingExtraError) as caught:
        make_backend("vllm:models/any", None)
    assert caught.value.extra == "vllm" and "pip install 'agentmem[vllm]'" in caught.value.hint


def test_a_spec_needs_its_model():
    with pytest.raises(ConfigError, match="lacks its argument"):
        make_backend("vllm", None)


def test_options_in_a_spec_are_json_or_text(tmp_path):
    path, options = split_target(
        "models/x?max_model_len=8192&gpu_memory_utilization=0.5&enforce_eager=true&quantization=fp8"
        '&speculative_config=%7B"method": "ngram"%7D&dtype=float32'
    )
    assert path == "models/x"
    assert options == {
        "max_model_len": 8192, "gpu_memory_utilization": 0.5, "enforce_eager": True, "quantization": "fp8",
        "speculative_config": {"method": "ngram"}, "dtype": "float32",
    }  # fmt: skip
    odd = tmp_path / "what?max=1"
    odd.mkdir()
    assert split_target(str(odd)) == (str(odd), {})
    for wrong in ("m?a=", "m?a=1&a=2"):
        with pytest.raises(ConfigError):
            split_target(wrong)
    with pytest.raises(ConfigError, match="max_num_seqs"):
        merged("m", {"max_num_seqs": 1}, {"max_num_seqs": 2})
    assert merged("m", {"a": 1}, {"b": 2}) == {"a": 1, "b": 2}


@given(
    st.dictionaries(st.from_regex(r"[a-z_]{1,12}", fullmatch=True), st.integers() | st.booleans() | st.floats(-9, 9))
)
def test_what_is_written_into_a_spec_is_read_from_it(options):
    spec = "&".join(f"{n}={json.dumps(v)}" for n, v in options.items())
    assert split_target(f"no-such-model?{spec}") == ("no-such-model", options)


def test_unknown_options_are_refused_the_likeliest_first():
    check_names({"max_model_len": 1, "timeout_s": 1}, KNOWN)
    with pytest.raises(ConfigError) as caught:
        check_names({"max_model_lenght": 1}, KNOWN)
    listed = caught.value.hint.split("known: ")[1].split(", ")
    assert listed[0] == "max_model_len" and "did you mean 'max_model_len'" in caught.value.hint
    assert set(listed) == {"max_model_len", "max_num_seqs", "tensor_parallel_size", "tokenizer", *vllm_options.OWN}
    for name in ("model", "_private", "runner"):
        with pytest.raises(ConfigError):
            check_names({name: 1}, KNOWN)


def test_values_that_can_not_be():
    check_values({"timeout_s": 1, "reserve_gib": 0, "speculative_config": {"method": "ngram"}})
    for wrong in ({"timeout_s": 0}, {"timeout_s": "1"}, {"reserve_gib": -1}, {"speculative_config": "ngram"}):
        with pytest.raises(ConfigError) as caught:
            check_values(wrong)
        assert caught.value.field == next(iter(wrong))


@pytest.mark.skipif(find_spec("arctic_inference") is not None, reason="it is installed")
def test_suffix_decoding_and_lmcache_name_their_packages():
    with pytest.raises(ConfigError, match="arctic-inference"):
        check_values({"speculative_config": {"method": "suffix"}})
    with pytest.raises(ConfigError, match="lmcache"):
        check_values({"kv_transfer_config": {"kv_connector": "LMCacheConnectorV1", "kv_role": "kv_both"}})


def test_the_share_of_a_gpu():
    assert gpu_share(80, 0) == 0.92
    assert gpu_share(80, 2) == 0.89  # 0.895, rounded down
    assert gpu_share(24, 2) == 0.83
    with pytest.raises(ConfigError, match="reserve_gib"):
        gpu_share(8, 7)


@given(st.floats(4, 200), st.floats(0, 20))
def test_a_gpus_reserve_is_left_free(total, reserve):
    try:
        share = gpu_share(total, reserve)
    except ConfigError:
        assert 0.92 - reserve / total < 0.11
        return
    assert 0.1 <= share <= 0.92 and share * total <= 0.92 * total - reserve + 1e-6


def test_the_cache_on_a_cpu():
    assert cpu_cache_bytes(24 * GIB, 2 * GIB, 2 * GIB) == (24 * GIB - 4 * GIB - int(1.5 * GIB)) // 2
    assert cpu_cache_bytes(500 * GIB, 16 * GIB, 0) == 16 * GIB
    assert cpu_cache_bytes(2 * GIB, 8 * GIB, 0) == GIB // 4


def test_memory_is_sized_only_where_the_user_did_not():
    facts = {"total": 80 * GIB, "available": 24 * GIB, "weights": 0, "reserve_gib": 2.0}
    assert vllm_options.memory_defaults({}, {}, on_cpu=False, **facts) == {"gpu_memory_utilization": 0.89}
    made = vllm_options.memory_defaults({}, {}, on_cpu=True, **facts)
    assert made == {"kv_cache_memory_bytes": cpu_cache_bytes(24 * GIB, 0, 2 * GIB)}
    for on_cpu in (True, False):
        for name in ("gpu_memory_utilization", "kv_cache_memory_bytes", "num_gpu_blocks_override"):
            assert vllm_options.memory_defaults({name: 1}, {}, on_cpu=on_cpu, **facts) == {}
    assert vllm_options.memory_defaults({}, {"VLLM_CPU_KVCACHE_SPACE": "4"}, on_cpu=True, **facts) == {}


def test_the_size_of_a_models_weights(tmp_path):
    assert vllm_options.weight_bytes("org/name") == vllm_options.weight_bytes(str(tmp_path)) == 0
    (tmp_path / "a.safetensors").write_bytes(b"x" * 10)
    (tmp_path / "b.safetensors").write_bytes(b"x" * 5)
    (tmp_path / "b.bin").write_bytes(b"x" * 100)
    assert vllm_options.weight_bytes(str(tmp_path)) == 15


def request(**settings):
    return Request((ChatMessage("user", "x"),), **settings)


def test_settings_of_a_request():
    defaults = {"top_p": 0.8, "top_k": 20, "temperature": 0.7, "repetition_penalty": 1.05, "max_tokens": 9}
    greedy = vllm_sampling.sampling_settings(request(max_tokens=7, seed=3), {5, 2}, defaults)
    assert greedy == {
        "max_tokens": 7, "temperature": 0.0, "seed": 3, "stop_token_ids": [2, 5], "repetition_penalty": 1.05
    }  # fmt: skip
    sampled = vllm_sampling.sampling_settings(request(temperature=0.5), {2}, defaults)
    assert (sampled["top_p"], sampled["top_k"], sampled["temperature"]) == (0.8, 20, 0.5)


def test_grammars():
    assert vllm_sampling.grammar(request(), "guidance") is None
    schema = {"type": "object"}
    assert vllm_sampling.grammar(request(schema=schema), "xgrammar") == {"json": schema}
    guided = vllm_sampling.grammar(request(schema=schema), "guidance")["json"]
    assert guided["type"] == "object" and guided["x-guidance"]["key_separator"] == ": "
    assert schema == {"type": "object"}
    only = request(tools=(TOOL,), only_tool="find")
    tag = json.loads(vllm_sampling.grammar(only, "auto")["structural_tag"])
    assert tag["format"]["begin"] == '<tool_call>\n{"name": "find", "arguments": '
    assert tag["format"]["content"]["json_schema"] == TOOL.parameters
    text = vllm_sampling.grammar(only, "guidance", ("<tool_call>",))["grammar"]
    assert text.startswith(
        'start: <tool_call> "\\n{\\"name\\": \\"find\\", \\"arguments\\": " arguments "}\\n" "</tool_call>"\n'
    )
    assert json.loads(text.split("%json ")[1])["additionalProperties"] is False


NO_ROOM = (
    "ValueError: To serve at least one request with the model's max seq len (8192), (1.25 GiB KV cache is needed, "
    "which is larger than the available KV cache memory (0.5 GiB). Based on the available memory, the estimated "
    "maximum model length is 3200. Try increasing `gpu_memory_utilization` or decreasing `max_model_len`."
)
LESS = (
    "ValueError: Available memory on node 0 (7.95/9.34 GiB) on startup is less than desired CPU memory utilization "
    "(0.92, 8.59 GiB). On the CPU backend, the `--gpu-memory-utilization` flag controls the fraction reserved."
)
GPU_LESS = (
    "ValueError: Free memory on device cuda:0 (3.2/79.1 GiB) on startup is less than desired GPU memory utilization "
    "(0.92, 72.77 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes."
)


@pytest.mark.parametrize(
    ("cause", "field", "words"),
    [
        (NO_ROOM, "max_model_len", ("8192", "1.25 GiB", "0.5 GiB", "max_model_len=3200")),
        (LESS, "gpu_memory_utilization", ("7.95", "9.34", "lower")),
        (GPU_LESS, "gpu_memory_utilization", ("3.2", "79.1", "lower")),
        ("ValueError: No available memory for the cache blocks. Try", "gpu_memory_utilization", ("raise it",)),
        ("OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", "gpu_memory_utilization", ("2.00 GiB",)),
        ("ValueError: something else", "backend", ("something else",)),
    ],
)
def test_a_start_that_failed_is_said_with_numbers_and_a_remedy(cause, field, words):
    error = vllm_errors.start_error(cause, {"gpu_memory_utilization": 0.92}, "models/x")
    assert isinstance(error, ConfigError) and error.field == field
    for word in words:
        assert word in str(error)


def test_a_start_that_left_no_words():
    error = vllm_errors.start_error("", {}, "models/x")
    assert isinstance(error, BackendUnavailableError) and "__main__" in error.hint


def test_the_log_gives_the_last_error_and_goes():
    log = EngineLog({})
    settings = json.loads(Path(log.settings).read_text())
    (file,) = [h["filename"] for h in settings["handlers"].values() if "filename" in h]
    assert log.cause() == ""
    lines = (
        "INFO x", "ERROR [core] failed", "Traceback", "  x", "ValueError: first", "", "torch.OutOfMemoryError: no room",
        "RuntimeError: Engine core initialization failed. See root cause above.",
    )  # fmt: skip
    Path(file).write_text("\n".join(lines))
    assert log.cause() == "OutOfMemoryError: no room"
    log.close()
    log.close()
    assert log.cause() == ""
    theirs, loud = EngineLog({"VLLM_LOGGING_CONFIG_PATH": "x"}), EngineLog({"VLLM_LOGGING_LEVEL": "warning"})
    assert theirs.settings is None
    assert json.loads(Path(loud.settings).read_text())["handlers"]["terminal"]["level"] == "WARNING"
    theirs.close()
    loud.close()


def test_jobs_on_the_loop():
    loop = LoopThread("test")
    ended = threading.Event()

    async def answer() -> int:
        await asyncio.sleep(0)
        return 7

    async def fail() -> None:
        raise ValueError("no")

    async def forever() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            ended.set()

    assert loop.call(answer()) == 7
    with pytest.raises(ValueError, match="no"):
        loop.call(fail())
    job = loop.start(forever())
    time.sleep(0.01)
    job.cancel()
    assert ended.is_set()
    with pytest.raises(BackendUnavailableError):
        job.result()
    ended.clear()
    job = loop.start(forever())
    called: list[str] = []
    loop.close(lambda: called.append(threading.current_thread().name))
    loop.close(lambda: called.append("again"))
    assert ended.is_set() and called == ["test"]
    for refused in (job.result, lambda: loop.call(answer())):
        with pytest.raises(BackendUnavailableError):
            refused()
    job.cancel()


def test_an_interrupted_wait_cancels_the_job(monkeypatch):
    loop = LoopThread("test")
    ended = threading.Event()
    order: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            order.append("cancelled")
            ended.set()

    job = loop.start(forever())
    waited = job._settled.wait

    def interrupted(timeout: float | None = None) -> bool:
        if timeout is None:
            time.sleep(0.01)
            raise KeyboardInterrupt
        return waited(timeout)

    monkeypatch.setattr(job._settled, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        job.result(lambda: order.append("first"))
    assert ended.is_set() and order == ["first", "cancelled"]
    loop.close(lambda: None)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the watcher reads /proc")
@pytest.mark.parametrize("told", [True, False], ids=["closed in order", "gone without a word"])
def test_the_watcher_ends_what_it_watches_unless_told_that_all_is_done(told):
    watched = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    watch = Watch([watched.pid])
    try:
        if told:
            watch.end()
            watch.end()
            assert watched.poll() is None
        else:
            watch._process.stdin.close()
            assert watched.wait(30) == -signal.SIGTERM
            watch.end()
    finally:
        watched.kill()
        watched.wait()
