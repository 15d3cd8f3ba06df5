"""The launcher: what it asks of vLLM, and how it starts, waits for and stops a server (here a stand-in for vLLM)."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from agentmem.backends.vllm_command import ServePlan, parser_for, plan
from agentmem.backends.vllm_server import VllmServer, free_port
from agentmem.errors import BackendError, BackendTimeoutError, ConfigError
from tests.cli.conftest import Ran, run_process

HERMES = "{{ tools | tojson }} <tool_call> {{ messages }}"


def model(folder: Path, template: str | None = HERMES, *, as_file: bool = True) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text("{}")
    if template is not None and as_file:
        (folder / "chat_template.jinja").write_text(template)
    elif template is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    return folder


def flags(made: ServePlan) -> dict[str, str]:
    rest = list(made.command[3:])
    out = {}
    while rest:
        flag = rest.pop(0)
        out[flag] = rest.pop(0) if rest and not rest[0].startswith("--") else ""
    return out


class TestPlan:
    def test_what_agentmem_wants(self, tmp_path: Path) -> None:
        made = plan(str(model(tmp_path / "my-model")), window=8192, port=8001)
        asked = flags(made)
        assert made.command[:3] == (sys.executable, "-m", "vllm.entrypoints.openai.api_server")
        assert asked["--model"] == str(tmp_path / "my-model") and asked["--served-model-name"] == "my-model"
        assert (asked["--host"], asked["--port"], asked["--max-model-len"]) == ("127.0.0.1", "8001", "8192")
        assert {
            "--enable-prefix-caching",
            "--enable-prompt-tokens-details",
            "--enable-auto-tool-choice",
        } <= asked.keys()
        assert asked["--tool-call-parser"] == "hermes"
        grammar = json.loads(asked["--structured-outputs-config"])
        assert (grammar["backend"], grammar["disable_any_whitespace"]) == ("guidance", True)
        assert made.environment["VLLM_NO_USAGE_STATS"] == made.environment["HF_HUB_OFFLINE"] == "1"
        assert made.spec == "openai:http://127.0.0.1:8001/v1#my-model"
        assert made.notes == ()

    def test_the_users_flags_go_before(self, tmp_path: Path) -> None:
        extra = ("--dtype", "float32", "--no-enable-prefix-caching", "--tool-call-parser=x", "--port", "9")
        made = plan(str(model(tmp_path / "m")), extra=extra)
        assert made.command[-len(extra) :] == extra
        assert "--enable-prefix-caching" not in made.command and made.command.count("--port") == 1
        assert "--tool-call-parser" not in made.command

    def test_memory_on_a_cpu(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)
        path = str(model(tmp_path / "m"))
        assert int(flags(plan(path, on_cpu=True))["--kv-cache-memory-bytes"]) >= 2**28
        assert "--kv-cache-memory-bytes" not in plan(path).command
        assert "--kv-cache-memory-bytes" not in plan(path, on_cpu=True, extra=("--gpu-memory-utilization=0.3",)).command

    @pytest.mark.parametrize("as_file", [True, False])
    def test_the_parser_follows_the_template(self, tmp_path: Path, as_file: bool) -> None:
        made = plan(str(model(tmp_path / "m", "x [TOOL_CALLS] y", as_file=as_file)))
        assert flags(made)["--tool-call-parser"] == "mistral"

    @pytest.mark.parametrize(
        ("template", "parser"),
        [
            (HERMES, "hermes"),
            ("<tool_call><function=", "qwen3_coder"),
            ("<tool_call>{name}<arg_key>", "glm45"),
            ("{{ '<|python_tag|>' }}", "llama3_json"),
            ("plain", None),
            ("", None),
        ],
    )
    def test_known_formats(self, template: str, parser: str | None) -> None:
        assert parser_for(template) == parser

    def test_a_template_that_tells_no_format_is_said(self, tmp_path: Path) -> None:
        made = plan(str(model(tmp_path / "m", "{{ messages }}")))
        assert "--enable-auto-tool-choice" not in made.command and "used as JSON" in made.notes[0]
        named = plan(str(tmp_path / "m"), tool_parser="pythonic")
        assert flags(named)["--tool-call-parser"] == "pythonic" and named.notes == ()

    def test_a_template_of_its_own(self, tmp_path: Path) -> None:
        path = model(tmp_path / "m", None)
        (tmp_path / "t.jinja").write_text("[TOOL_CALLS]")
        for extra in (("--chat-template", str(tmp_path / "t.jinja")), (f"--chat-template={tmp_path / 't.jinja'}",)):
            assert flags(plan(str(path), extra=extra))["--tool-call-parser"] == "mistral"

    def test_a_hub_name(self) -> None:
        made = plan("Qwen/Qwen3-8B", tool_parser="hermes")
        assert made.name == "Qwen/Qwen3-8B" and "HF_HUB_OFFLINE" not in made.environment

    @pytest.mark.parametrize(
        ("host", "url"),
        [("0.0.0.0", "http://127.0.0.1:8000"), ("::1", "http://[::1]:8000"), ("::", "http://[::1]:8000")],
    )
    def test_where_it_is_asked(self, tmp_path: Path, host: str, url: str) -> None:
        assert plan(str(model(tmp_path / "m")), host=host).root == url

    @pytest.mark.parametrize("name", ["missing/folder/x", "./missing", "/missing"])
    def test_a_model_that_is_not_there(self, name: str) -> None:
        with pytest.raises(ConfigError, match="no folder on this machine"):
            plan(name)

    def test_folders_that_are_no_model_or_can_not_chat(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"no config\.json"):
            plan(str(tmp_path))
        with pytest.raises(ConfigError, match="no chat template") as e:
            plan(str(model(tmp_path / "m", None)))
        assert "--chat-template" in e.value.hint


# Answers /health after a moment; starts a child that ignores SIGTERM, as an engine that hangs.
GOOD = """
import http.server, signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGINT, signal.SIG_IGN);"
    "print('engine up', flush=True); time.sleep(600)"])
print("child", child.pid, flush=True)
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), H).serve_forever()
"""


def stand_in(code: str, port: int) -> ServePlan:
    return ServePlan((sys.executable, "-c", code, str(port)), {}, "127.0.0.1", port, "tiny")


@pytest.fixture
def port() -> int:
    return free_port("127.0.0.1")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "server.log"


@pytest.fixture
def signals() -> Iterator[None]:
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def child_of(server: VllmServer) -> int:
    while "engine up" not in server.tail(100):
        time.sleep(0.01)
    return int(next(line for line in server.tail(100).splitlines() if line.startswith("child")).split()[1])


class TestProcess:
    def test_starts_waits_and_stops_with_all_it_started(self, port: int, log: Path) -> None:
        server = VllmServer(stand_in(GOOD, port), log)
        told: list[tuple[float, str]] = []
        try:
            server.start()
            server.wait_ready(60, lambda waited, last: told.append((waited, last)))
            child = child_of(server)
            assert is_alive(child)
        finally:
            server.stop()
        assert told and server.pid is not None
        assert not is_alive(server.pid)
        wait_until(lambda: not is_alive(child))
        server.stop()

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 7)])
    def test_signals_are_passed_on_and_its_code_is_ours(
        self, port: int, log: Path, signals: None, number: int, code: int
    ) -> None:
        server = VllmServer(stand_in(GOOD, port), log)
        try:
            server.start()
            server.forward_signals()
            server.wait_ready(60, lambda *_: None)
            threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
            assert server.wait() == code
        finally:
            server.stop()

    @pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such bond")
    def test_it_does_not_outlive_a_process_that_is_killed(self, port: int, log: Path) -> None:
        code = (
            "import sys, time\n"
            "from pathlib import Path\n"
            "from agentmem.backends.vllm_server import VllmServer\n"
            "from tests.backends.test_vllm_server import GOOD, stand_in\n"
            "server = VllmServer(stand_in(GOOD, int(sys.argv[1])), Path(sys.argv[2]))\n"
            "server.start()\n"
            "server.wait_ready(60, lambda *_: None)\n"
            "print(server.pid, flush=True)\n"
            "time.sleep(600)\n"
        )
        owner = subprocess.Popen([sys.executable, "-c", code, str(port), str(log)], stdout=subprocess.PIPE, text=True)
        assert owner.stdout is not None
        with owner.stdout:
            pid = int(owner.stdout.readline())
        owner.kill()
        owner.wait()
        try:
            wait_until(lambda: not is_alive(pid))
        finally:
            os.killpg(pid, signal.SIGKILL)  # the stand-in's child, which ignores all else

    def test_stopped_while_it_loads(self, port: int, log: Path, signals: None) -> None:
        server = VllmServer(stand_in("import time; time.sleep(600)", port), log)
        try:
            server.start()
            server.forward_signals()
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
            with pytest.raises(KeyboardInterrupt):
                server.wait_ready(60, lambda *_: None)
        finally:
            server.stop()

    @pytest.mark.parametrize(
        ("said", "cause", "hint"),
        [
            ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "out of memory", "--window"),
            (
                "Available memory on node 0 (7.9/9.3 GiB) on startup is less than desired CPU memory utilization",
                "out of memory",
                "--gpu-memory-utilization",
            ),
            ("User-specified max_model_len (9000) is greater than the derived max_model_len", "window", "--window"),
            ("KeyError: 'invalid tool call parser: x (chose from { hermes })'", "tool parser", "--tool-call-parser"),
            ("api_server.py: error: unrecognized arguments: --bogus", "does not know a flag", "--dry-run"),
            ("OSError: Can't load the configuration of 'x/y'", "files can't be had", "folder"),
            ("RuntimeError: something new", "did not start (exit code 3)", "log"),
        ],
    )
    def test_a_server_that_does_not_start(self, port: int, log: Path, said: str, cause: str, hint: str) -> None:
        code = f"import sys; print('INFO loading'); print({said!r}); sys.exit(3)"
        server = VllmServer(stand_in(code, port), log)
        server.start()
        with pytest.raises(BackendError) as e:
            server.wait_ready(60, lambda *_: None)
        assert cause in e.value.message and hint in e.value.hint
        assert said in e.value.message and "exit code 3" in e.value.message and str(log) in e.value.message
        assert not e.value.retryable

    def test_a_server_that_was_killed(self, port: int, log: Path) -> None:
        server = VllmServer(stand_in("import os; os.kill(os.getpid(), 9)", port), log)
        server.start()
        with pytest.raises(BackendError, match=r"want of memory \(exit code 137\)"):
            server.wait_ready(60, lambda *_: None)

    def test_a_server_that_takes_too_long(self, port: int, log: Path) -> None:
        server = VllmServer(stand_in("import time; print('still loading', flush=True); time.sleep(600)", port), log)
        try:
            server.start()
            with pytest.raises(BackendTimeoutError, match="not ready after 0 s"):
                server.wait_ready(0.3, lambda *_: None)
        finally:
            server.stop()

    def test_a_port_that_is_taken(self, log: Path) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            taken = other.getsockname()[1]
            with pytest.raises(ConfigError, match="is taken by another server"):
                VllmServer(stand_in(GOOD, taken), log).start()
        assert not log.exists()

    def test_a_host_that_is_none_of_ours(self, log: Path) -> None:
        with pytest.raises(ConfigError, match="can't be listened on at 192"):
            free_port("192.0.2.1")

    def test_the_tail_of_a_log(self, log: Path) -> None:
        server = VllmServer(stand_in(GOOD, 1), log)
        assert server.tail() == ""
        log.write_bytes(b"\xff\n" + b"".join(b"line %d\n\n" % n for n in range(50_000)))
        assert server.tail(2) == "line 49998\nline 49999"


def wait_until(what: Sequence[object] | object) -> None:
    assert callable(what)
    for _ in range(1000):
        if what():
            return
        time.sleep(0.01)
    raise AssertionError("it never came to that")


class TestCommand:
    @staticmethod
    def run(*args: str) -> Ran:
        return run_process("serve-model", *args)

    def test_dry_run_prints_the_command_line(self, tmp_path: Path) -> None:
        path = str(model(tmp_path / "m"))
        ran = self.run(path, "--dry-run", "--port", "8005", "--json", "--", "--dtype", "float32")
        said = json.loads(ran.out)
        assert (ran.code, ran.err) == (0, "")
        assert said["backend"] == "openai:http://127.0.0.1:8005/v1#m" and said["command"][-2:] == ["--dtype", "float32"]
        plain = self.run(path, "--dry-run")
        assert plain.out.startswith("VLLM_NO_USAGE_STATS=1 ") and "api_server" in plain.out

    def test_wrong_usage_exits_2_with_a_reason(self, tmp_path: Path) -> None:
        for args in (("/missing",), (str(tmp_path), "--port", "70000"), ()):
            ran = self.run(*args, "--dry-run")
            assert ran.code == 2 and ran.out == "" and ran.err, args

    @pytest.mark.skipif("__import__('importlib.util').util.find_spec('vllm') is not None")
    def test_without_vllm_the_install_line_is_printed(self, tmp_path: Path) -> None:
        ran = self.run(str(model(tmp_path / "m")))
        assert ran.code == 1 and "pip install 'agentmem[vllm]'" in ran.err and ran.out == ""
