"""What goes wrong around an engine: options, memory, a process that is killed, programs that end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from agentmem.errors import BackendUnavailableError, ConfigError
from agentmem.types import ChatMessage, Request
from tests.vllm.conftest import SMALL

ROOT = Path(__file__).resolve().parents[2]
REPEATS = "The boat lies in the harbour. " * 30
NGRAM = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 4, "prompt_lookup_min": 2}


def asked(text, **settings):
    return Request((ChatMessage("user", text),), **{"max_tokens": 48, **settings})


def cores():
    return [p for p in psutil.Process().children(recursive=True) if "EngineCor" in p.name()]


@pytest.fixture(scope="module")
def second(random_path):
    """An engine of this module's own, which its last test kills; n-gram speculation on."""
    from agentmem.backends.vllm_engine import VllmBackend

    before = set(cores())
    backend = VllmBackend(str(random_path), speculative_config=NGRAM, **SMALL)
    backend.processes = [p for p in cores() if p not in before]
    yield backend
    backend.close()
    backend.close()
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in backend.processes)
    assert not [p for p in psutil.Process().children() if p.status() == psutil.STATUS_ZOMBIE]


def test_options_that_vllm_does_not_have_are_refused_with_those_it_has(random_path):
    from agentmem.backends.vllm_engine import VllmBackend

    with pytest.raises(ConfigError) as caught:
        VllmBackend(str(random_path), max_model_length=4096)
    assert "did you mean 'max_model_len'" in caught.value.hint
    for name in ("tensor_parallel_size", "kv_offloading_size", "timeout_s", "quantization"):
        assert name in caught.value.hint


def test_the_documented_options_are_vllms(random_path):
    from dataclasses import fields

    from vllm.engine.arg_utils import AsyncEngineArgs

    from agentmem.backends.vllm_options import OWN

    known = {f.name for f in fields(AsyncEngineArgs)} | set(OWN)
    text = (ROOT / "docs" / "backends.md").read_text(encoding="utf-8")
    section = text[text.index("## vllm") :]
    table = [line.split("|")[1] for line in section.split("\n## ")[0].splitlines() if line.startswith("| `")]
    named = {n for cell in table for n in re.findall(r"`(\w+)`", cell)}
    assert len(named) > 12 and named <= known, named - known


def test_models_and_templates_that_can_not_serve(random_path, tmp_path):
    from agentmem.backends.vllm_engine import VllmBackend

    with pytest.raises(ConfigError, match="no-such-folder"):
        VllmBackend(str(tmp_path / "no-such-folder"), **SMALL)
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in random_path.iterdir():
        if file.name != "chat_template.jinja":
            (bare / file.name).write_bytes(file.read_bytes())
    settings = json.loads((bare / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (bare / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match="chat template") as caught:
        VllmBackend(str(bare), **SMALL)
    assert "template=" in caught.value.hint


def test_what_the_engine_refuses_at_its_start_is_said(random_path):
    from agentmem.backends.vllm_engine import VllmBackend

    with pytest.raises(ConfigError, match=r"(?i)sleep mode is not supported"):
        VllmBackend(str(random_path), enable_sleep_mode=True, **SMALL)
    with pytest.raises(ConfigError, match="100000"):
        VllmBackend(str(random_path), max_model_len=100_000, **SMALL)
    with pytest.raises(ConfigError, match="arctic-inference"):
        VllmBackend(str(random_path), speculative_config={"method": "suffix"}, **SMALL)
    assert threading.active_count() < 30


def test_a_cache_that_holds_no_whole_request_is_said_with_the_numbers(random_path):
    from agentmem.backends.vllm_engine import VllmBackend

    with pytest.raises(ConfigError) as caught:
        VllmBackend(str(random_path), **{**SMALL, "kv_cache_memory_bytes": 2 * 1024 * 1024})
    assert (caught.value.field, caught.value.value) == ("max_model_len", 8192)
    assert re.search(r"needs [\d.]+ GiB of cache, [\d.]+ GiB are there", caught.value.message)
    assert "max_model_len=" in caught.value.hint and "kv_cache_memory_bytes" in caught.value.hint


def test_speculation_by_ngrams_writes_the_same(engine, second):
    requests = [asked(REPEATS + f"{n}") for n in range(8)]
    assert [c.text for c in second.generate(requests)] == [c.text for c in engine.generate(requests)]
    schema = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 20}}, "required": ["a"]}
    (guided,) = second.generate([asked("x", schema=schema, temperature=1.5, seed=2)])
    json.loads(guided.text)


def assert_gone(line):
    """The processes that the script printed are gone, or go soon."""
    pids = [int(p) for p in line.split()[1:]]
    ends = time.monotonic() + 60
    while (left := [p for p in pids if psutil.pid_exists(p)]) and time.monotonic() < ends:
        time.sleep(0.1)
    assert len(pids) > 1 and left == []


SCRIPT = """
import os, sys, signal, threading, time, psutil
from agentmem.backends.vllm_engine import VllmBackend
from agentmem.types import ChatMessage, Request
def main():
    backend = VllmBackend(sys.argv[1], dtype="float32", enforce_eager=True, kv_cache_memory_bytes=1 << 28)
    long = Request((ChatMessage("user", "x"),), max_tokens=8000, temperature=1.0, seed=1)
    print("core", *[p.pid for p in psutil.Process().children(recursive=True)], flush=True)
    # As a terminal does it: Ctrl-C goes to every process of the group.
    threading.Timer(1.0, lambda: os.killpg(os.getpgrp(), signal.SIGINT)).start()
    try:
        backend.generate([long])
        print("not interrupted")
    except KeyboardInterrupt:
        print("interrupted", backend.active_requests, flush=True)
    (short,) = backend.generate([Request((ChatMessage("user", "x"),), max_tokens=3)])
    print("still there", short.usage.completion_tokens, flush=True)
    open_stream = backend.stream(long)
    next(open_stream)
    print("leaving", flush=True)
    return open_stream
GUARD
"""


def run(script, path, tmp_path, **more):
    file = tmp_path / "script.py"
    file.write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, str(file), str(path)], cwd=tmp_path, env=environment, text=True, capture_output=True,
        timeout=240, check=False, start_new_session=True, **more,
    )  # fmt: skip


def test_ctrl_c_ends_the_answer_and_not_the_engine_and_a_program_ends_without_closing(random_path, tmp_path):
    done = run(SCRIPT.replace("GUARD", "if __name__ == '__main__':\n    kept = main()"), random_path, tmp_path)
    said = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert said[1:] == ["interrupted 0", "still there 3", "leaving"], (said, done.stderr)
    assert_gone(said[0])
    assert "Traceback" not in done.stderr


def test_a_program_that_is_killed_takes_its_engine_with_it(random_path, tmp_path):
    script = SCRIPT.replace("GUARD", "if __name__ == '__main__':\n    main()")
    script = script.replace("os.killpg(os.getpgrp(), signal.SIGINT)", "os.kill(os.getpid(), signal.SIGKILL)")
    done = run(script, random_path, tmp_path)
    assert done.returncode == -signal.SIGKILL
    assert_gone(done.stdout.splitlines()[0])


def test_a_script_without_a_guard_is_told_so(random_path, tmp_path):
    done = run(SCRIPT.replace("GUARD", "kept = main()"), random_path, tmp_path)
    assert done.returncode != 0
    assert "if __name__ == '__main__':" in done.stderr


def test_an_engine_that_is_killed_is_said_to_be_dead_and_nothing_hangs(second):
    stream = second.stream(asked("on", max_tokens=8000, temperature=1.0, seed=3))
    next(stream)
    waiting: list[BaseException] = []

    def ask():
        try:
            second.generate([asked("on", max_tokens=8000, temperature=1.0, seed=4)])
        except BackendUnavailableError as e:
            waiting.append(e)

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.3)
    (core,) = [p for p in second.processes if "EngineCor" in p.name()]
    core.send_signal(signal.SIGKILL)
    with pytest.raises(BackendUnavailableError) as caught:
        list(stream)
    thread.join(30)
    assert not thread.is_alive() and len(waiting) == 1
    for error in (caught.value, waiting[0]):
        assert "ended" in error.message and "new one" in error.hint
    for _ in range(3):
        with pytest.raises(BackendUnavailableError):
            second.generate([asked("still there?")])
        with pytest.raises(BackendUnavailableError):
            list(second.stream(asked("still there?")))
