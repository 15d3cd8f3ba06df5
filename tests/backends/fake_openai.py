"""A real HTTP server on 127.0.0.1 that speaks enough of the OpenAI and vLLM protocols, and misbehaves on request."""

from __future__ import annotations

import json
import re
import select
import sys
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from zlib import crc32

import pytest

from agentmem.backends.hashing_embedder import HashingEmbedder
from agentmem.backends.http import HttpClient

CHAT, TOKENIZE, MODELS, EMBED = "/v1/chat/completions", "/tokenize", "/v1/models", "/v1/embeddings"
METRICS = "/metrics"


@dataclass
class Recorded:
    """What a client sent."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Reply:
    """One scripted answer.

    `body`: JSON, or bytes as they are. `pieces`: an event stream, numbers in it are waits in seconds.
    `delay_s`: before the answer begins; a client that leaves meanwhile ends it, as it does with the servers that there
    are. `drop`: close without a word. `cut`: break the connection after the pieces, before the end of the body.
    """

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    pieces: Sequence[bytes | float] | None = None
    delay_s: float = 0.0
    drop: bool = False
    cut: bool = False


Line = Reply | Callable[[Recorded], Reply]


def count_words(text: str) -> int:
    """The fake model's tokens."""
    return len(re.findall(r"\w+|[^\w\s]", text))


def count_chat(body: dict[str, Any]) -> int:
    """The fake model's tokens of a prompt: three of template for each message, and the tools' JSON."""
    tools = count_words(json.dumps(body["tools"])) if body.get("tools") else 0
    return tools + sum(3 + count_words(m["content"]) for m in body["messages"])


def sse(*events: Any, done: bool = True) -> list[bytes]:
    """Events as a server writes them."""
    lines = [f"data: {json.dumps(e, ensure_ascii=False)}\n\n".encode() for e in events]
    return lines + ([b"data: [DONE]\n\n"] if done else [])


def delta(finish: str | None = None, **fields: Any) -> dict[str, Any]:
    """A streamed piece."""
    return {"id": "c1", "choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def completion(text: str | None = "hi", **fields: Any) -> dict[str, Any]:
    """A whole answer."""
    message = {"role": "assistant", "content": text} | fields
    usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}


def echo(request: Recorded) -> Reply:
    """Answers with the last message, as far as it may, streamed word by word where that is asked for."""
    text, finish = "echo: " + request.body["messages"][-1]["content"], "stop"
    ends = [m.end() for m in re.finditer(r"\w+|[^\w\s]", text)]
    if len(ends) > request.body["max_tokens"]:
        text, finish = text[: ends[request.body["max_tokens"] - 1]], "length"
    usage = {"prompt_tokens": count_chat(request.body), "completion_tokens": count_words(text)}
    if not request.body.get("stream"):
        body = completion(text) | {"usage": usage}
        body["choices"][0]["finish_reason"] = finish
        return Reply(body)
    pieces = [delta(content=p) for p in re.findall(r"\S+\s*|\s+", text)]
    return Reply(pieces=sse(delta(role="assistant"), *pieces, delta(finish), {"choices": [], "usage": usage}))


def guided(*forms: str) -> Callable[[Recorded], Reply]:
    """A server that keeps its answers to a schema under these names, and ignores the others without a word."""

    def answer(request: Recorded) -> Reply:
        body = request.body
        asked = {
            "structured_outputs": body.get("structured_outputs", {}).get("json"),
            "response_format": body.get("response_format", {}).get("json_schema", {}).get("schema"),
            "guided_json": body.get("guided_json"),
        }
        schema = next((asked[f] for f in forms if asked[f] is not None), None)
        if schema is None:
            return echo(request)
        text = json.dumps(instance(schema), separators=(",", ":"))
        usage = {"prompt_tokens": count_chat(body), "completion_tokens": count_words(text)}
        if body.get("stream"):
            return Reply(pieces=sse(delta(content=text), delta("stop"), {"choices": [], "usage": usage}))
        return Reply(completion(text) | {"usage": usage})

    return answer


def instance(schema: dict[str, Any]) -> Any:
    """A value of a simple schema."""
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("type") == "object":
        return {k: instance(schema["properties"][k]) for k in schema.get("required", [])}
    return {"string": "x", "integer": 1, "boolean": True}.get(schema.get("type", ""))


def render_tokens(body: dict[str, Any]) -> list[str]:
    """The fake model's tokens as text: white space belongs to the word behind it. As many as `count_chat` says."""
    said = json.dumps(body["tools"]) if body.get("tools") else ""
    tokens = re.findall(r"\s*(?:\w+|[^\w\s])", said)
    rest = said[len("".join(tokens)) :]
    for m in body["messages"]:
        tokens += [rest + "<s>", m["role"], "\n"]
        words = re.findall(r"\s*(?:\w+|[^\w\s])", m["content"])
        tokens += words
        rest = m["content"][len("".join(words)) :]
    return tokens


_PLAIN = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
SIGNS = {b: chr(b) for b in _PLAIN} | {
    b: chr(0x100 + n) for n, b in enumerate(b for b in range(256) if b not in _PLAIN)
}


def byte_level(text: str) -> str:
    """A token as byte-level vocabularies store it."""
    return "".join(SIGNS[b] for b in text.encode("utf-8"))


def ids_of(tokens: Sequence[str]) -> list[int]:
    """The fake vocabulary."""
    return [crc32(t.encode("utf-8")) % 100_000 for t in tokens]


def tokenize(request: Recorded) -> Reply:
    """vLLM's /tokenize."""
    body = request.body
    if "prompt" in body:
        tokens = re.findall(r"\w+|[^\w\s]", body["prompt"]) or [body["prompt"]]
    else:
        tokens = render_tokens(body)
    strings = {"token_strs": [byte_level(t) for t in tokens]} if body.get("return_token_strs") else {}
    return Reply({"count": len(tokens), "max_model_len": 99, "tokens": ids_of(tokens)} | strings)


def embeddings(request: Recorded) -> Reply:
    """Rows of length 3, in reversed order; the index tells which is which."""
    rows = HashingEmbedder(64).embed(request.body["input"], input_type="document") * 3.0
    return Reply({"data": [{"index": i, "embedding": [float(x) for x in r]} for i, r in enumerate(rows)][::-1]})


def models(*ids: str, **fields: Any) -> Reply:
    """A /models answer."""
    return Reply({"data": [{"id": i} | fields for i in ids]})


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up between two requests is no news; anything else is a fault of the fake."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class FakeOpenAI:
    """The server; a context manager. Scripted lines are used up first, then each path answers as a good server does."""

    def __init__(self) -> None:
        self.requests: list[Recorded] = []
        self.aborted = threading.Event()
        self.running = 0
        self.most_running = 0
        self.connections = 0
        self.lock = threading.Lock()
        self.scripts: dict[str, deque[Line]] = defaultdict(deque)
        self.defaults: dict[str, Line] = {
            CHAT: echo,
            TOKENIZE: tokenize,
            EMBED: embeddings,
            MODELS: models("tiny", max_model_len=4096),
        }
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.root = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.url = f"{self.root}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> FakeOpenAI:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def script(self, path: str, *lines: Line) -> None:
        """Answers for the next requests of a path."""
        self.scripts[path].extend(lines)

    def asked(self, path: str) -> list[Recorded]:
        """The requests of a path so far."""
        return [r for r in self.requests if r.path == path]


def tidy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Body of a fixture: no key in the environment, and every client that the test makes is closed after it."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    made: list[HttpClient] = []
    start = HttpClient.__init__

    def recorded(self: HttpClient, *args: Any, **settings: Any) -> None:
        start(self, *args, **settings)
        made.append(self)

    monkeypatch.setattr(HttpClient, "__init__", recorded)
    yield
    for client in made:
        client.close()


def _handler(fake: FakeOpenAI) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else each answer waits 40 ms for the client's acknowledgement

        def setup(self) -> None:
            with fake.lock:
                fake.connections += 1
            super().setup()

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self._answer()

        do_POST = do_GET

        def _answer(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {k.lower(): v for k, v in self.headers.items()}
            request = Recorded(self.command, self.path, headers, json.loads(raw.decode("utf-8")) if raw else None)
            with fake.lock:
                fake.requests.append(request)
                fake.running += 1
                fake.most_running = max(fake.most_running, fake.running)
                script = fake.scripts[self.path]
                line = script.popleft() if script else fake.defaults.get(self.path, Reply({"detail": "no"}, 404))
            try:
                self._send(line if isinstance(line, Reply) else line(request))
            except (BrokenPipeError, ConnectionResetError):
                fake.aborted.set()
                self.close_connection = True
            finally:
                with fake.lock:
                    fake.running -= 1

        def _send(self, reply: Reply) -> None:
            if reply.delay_s and select.select([self.connection], [], [], reply.delay_s)[0]:
                raise ConnectionResetError("the client has gone")
            if reply.drop:
                self.close_connection = True
                return
            self.send_response(reply.status)
            if reply.pieces is None:
                body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                headers = {"Content-Type": "application/json", "Content-Length": str(len(body))} | reply.headers
            else:
                headers = {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"} | reply.headers
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if reply.pieces is None:
                self.wfile.write(body)
                return
            for piece in reply.pieces:
                if isinstance(piece, bytes):
                    self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                    self.wfile.flush()
                else:
                    time.sleep(piece)
            if reply.cut:
                self.close_connection = True
            else:
                self.wfile.write(b"0\r\n\r\n")

    return Handler
