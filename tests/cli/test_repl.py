"""The chat as a person meets it (on a pty) and as a program does (on a pipe)."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

import pytest

from tests.cli.conftest import MAIN, NO_MODEL, ROOT, Ran
from tests.forking import Forked

Cli = Callable[..., Ran]
SLOW = ("--backend", "tests.cli.slow_backend:SlowBackend")
PATIENCE_S = 30.0
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[@-_][^\x1b]{0,0}|\r")


class Terminal:
    """A chat on a pty. `until(text)` reads on until the text stands on the screen, and fails when it never does."""

    def __init__(self, *args: str | Path, term: str = "xterm") -> None:
        master, slave = pty.openpty()
        import fcntl
        import struct
        import termios

        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 150, 0, 0))
        self.fd = master
        env = {**os.environ, "TERM": term, "PROMPT_TOOLKIT_NO_CPR": "1"}
        self.process = Forked(MAIN, "chat", *args, env=env, cwd=ROOT, terminal=slave)
        os.close(slave)
        self.screen = ""
        self.seen = 0

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, at: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.fd)

    def read(self, seconds: float) -> bool:
        """Take in what comes within so many seconds; False at the end."""
        ready, _, _ = select.select([self.fd], [], [], seconds)
        if not ready:
            return True
        try:
            piece = os.read(self.fd, 65536)
        except OSError:
            return False
        self.screen += _ESCAPES.sub("", piece.decode("utf-8", "replace"))
        return bool(piece)

    def until(self, text: str) -> str:
        """What stood on the screen since the last call, up to the text."""
        end = time.monotonic() + PATIENCE_S
        while (at := self.screen.find(text, self.seen)) < 0:
            assert time.monotonic() < end, f"{text!r} never came; since the last look: {self.screen[self.seen :]!r}"
            assert self.read(0.2), f"it ended before {text!r} came: {self.screen[self.seen :]!r}"
        shown = self.screen[self.seen : at + len(text)]
        self.seen = at + len(text)
        return shown

    def type(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def say(self, line: str) -> None:
        self.type(line + "\r")

    def end(self) -> int:
        """Ctrl-D at the next prompt (typed earlier, the terminal itself would take it); the exit code."""
        self.until("\n>")
        self.type("\x04")
        return self.ends()

    def ends(self) -> int:
        """The exit code, once it has ended."""
        end = time.monotonic() + PATIENCE_S
        while self.process.poll() is None:
            assert time.monotonic() < end, f"it does not end: {self.screen[self.seen :]!r}"
            self.read(0.1)
        return int(self.process.returncode)


@pytest.fixture
def base(own_db: Path) -> tuple[str, ...]:
    return ("--db", str(own_db), "--agent", "tom", "--window", "1024")


@pytest.fixture
def terminal(base: tuple[str, ...]) -> Iterator[Terminal]:
    with Terminal(*base) as opened:
        opened.until("/help lists the commands.")
        opened.until(">")
        yield opened


# -- on a pty ----------------------------------------------------------------------------------------------------


def test_the_greeting_says_what_answers(base: tuple[str, ...]) -> None:
    with Terminal(*base) as chat:
        greeting = chat.until("/help lists the commands.")
        assert "no language model" in greeting and "extractive" in greeting
        assert "'tom'" in greeting and "48 messages so far" in greeting


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_a_conversation(base: tuple[str, ...], term: str) -> None:
    with Terminal(*base, term=term) as chat:
        chat.until("/help lists the commands.")
        chat.say("Where did Anna move to?")
        chat.until("[paged in ")
        chat.until("; /why]")
        reply = chat.until("[D1:3]")
        assert "Lisbon" in reply
        chat.say("/why")
        why = chat.until("answered at confidence")
        assert "D1:3" in why and "cosine" in why and re.search(r"0\.\d{3} D1:3 8 May 2023", why)
        chat.say("/context")
        drawn = chat.until("summary covers m1 to")
        assert "tokens" in drawn and "█" in drawn and "of 896 tokens" in drawn
        assert all(section in drawn for section in ("system", "queue", "tail"))
        chat.say("/quit")
        assert chat.ends() == 0


def test_the_commands(terminal: Terminal, tmp_path: Path) -> None:
    chat = terminal
    chat.say("/help")
    help_ = chat.until("Alt-Enter")
    for name in ("/context", "/core", "/search", "/why", "/reflect", "/undo", "/export", "/help", "/quit"):
        assert name in help_
    chat.say("/core human Likes green tea.")
    assert "Likes green tea." in chat.until("Likes green tea.\n")
    chat.say("/core attic Something.")
    assert "persona, human" in chat.until("error: unknown core memory block 'attic'; known: persona, human")
    chat.say("/search parrot")
    found = chat.until("Biscuit")
    assert "D1:8" in found
    chat.say("/search")
    chat.until("is empty")
    chat.say("/why")
    chat.until("nothing was paged in for the last message")
    chat.say("/fly away")
    chat.until("unknown command /fly; there are: /context /core /search /why /reflect /undo")
    chat.until("/export /help /quit")  # the line may be wider than the terminal
    chat.say(f"/export {tmp_path / 'a.jsonl'}")
    chat.until("written to")
    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    end = json.loads(lines[-1])
    assert (end["type"], end["lines"]) == ("end", len(lines))
    chat.say("/export")
    chat.until("give one file name")
    chat.say("/export /proc/no/such")
    chat.until("error: /proc/no/such")
    chat.say("/export 'half a quotation")
    chat.until("give one file name")
    assert chat.end() == 0


def test_ctrl_c_stops_a_reply_and_not_the_program(base: tuple[str, ...], own_db: Path, cli: Cli) -> None:
    with Terminal(*base, *SLOW) as chat:
        assert "slow: says slowly" in chat.until("/help lists the commands.")
        chat.say("Please give a long answer.")
        chat.until("slowly3")
        chat.type("\x03")
        chat.until("(stopped; what you said is kept)")
        assert "slowly90" not in chat.screen
        chat.say("And a short one.")
        chat.until("slowly0 slowly1")
        assert chat.process.poll() is None
        chat.type("half a line")
        chat.type("\x03")
        assert chat.end() == 0
    rows = [json.loads(line) for line in cli("export", "-", "--db", own_db, "--agent", "tom").out.splitlines()]
    said = [r["content"] for r in rows if r["type"] == "message" and r["role"] == "user"]
    assert said[-2:] == ["Please give a long answer.", "And a short one."]
    assert cli("verify", "--db", own_db, "--agent", "tom").code == 0


def test_a_reply_is_streamed(base: tuple[str, ...]) -> None:
    with Terminal(*base, *SLOW) as chat:
        chat.until("/help lists the commands.")
        chat.say("Please give a long answer.")
        chat.until("slowly2")
        assert "slowly99" not in chat.screen, "the first words stand there before the last are made"
        chat.process.send_signal(signal.SIGINT)
        chat.until("(stopped;")


def test_a_line_for_what_is_paged_out(terminal: Terminal) -> None:
    chat = terminal
    for n in range(12):
        chat.say(f"Report {n}: the road over the pass is closed again, the ferry is late and the weather is dreadful.")
        chat.until("Kept in recall")
        if "[paged out " in chat.screen:
            break
    line = chat.screen[chat.screen.index("[paged out ") :]
    line = line[: line.index("]") + 1]
    assert re.fullmatch(
        r"\[paged out \d+ messages, m\d+ to m\d+: \d+ -> \d+ tokens; epoch \d+\]", " ".join(line.split())
    ), line


def test_history_holds_what_the_user_said_before(base: tuple[str, ...], cli: Cli) -> None:
    assert cli("ask", "What is the parrot called?", *base).code == 0
    with Terminal(*base) as chat:
        chat.until("/help lists the commands.")
        chat.until(">")
        chat.type("\x1b[A")
        chat.until("What is the parrot called?")
        chat.type("\r")
        chat.until("Biscuit")
        assert chat.end() == 0


def test_completion_of_commands(terminal: Terminal) -> None:
    terminal.type("/cont\t")
    terminal.until("/context")
    terminal.type("\r")
    terminal.until("epoch ")


def test_several_lines_by_alt_enter(terminal: Terminal, own_db: Path, cli: Cli) -> None:
    terminal.type("First line,\x1b\rsecond line.\r")
    terminal.until("Kept in recall")
    assert terminal.end() == 0
    rows = [json.loads(line) for line in cli("export", "-", "--db", own_db, "--agent", "tom").out.splitlines()]
    said = [r["content"] for r in rows if r["type"] == "message" and r["role"] == "user"]
    assert said[-1] == "First line,\nsecond line."


def test_a_second_chat_on_the_same_agent_is_refused(terminal: Terminal, base: tuple[str, ...], cli: Cli) -> None:
    refused = cli("chat", *base, stdin=b"Hello\n")
    assert refused.code == 1
    assert "another chat is open on agent 'tom'" in refused.err and "--agent" in refused.err
    assert cli("ask", "Where did Anna move to?", "--no-store", *base).code == 0, "ask may run beside a chat"
    other = cli("chat", *base[:2], "--agent", "mia", *NO_MODEL, "--json", stdin=b"Hello\n")
    assert other.code == 0
    terminal.type("\x04")
    assert terminal.ends() == 0
    assert cli("chat", *base, stdin=b"/quit\n").code == 0


# -- on a pipe ---------------------------------------------------------------------------------------------------


def test_a_message_a_line_on_a_pipe(cli: Cli, base: tuple[str, ...]) -> None:
    done = cli("chat", *base, stdin=b"Where did Anna move to?\n\n/why\n/nosuch\nWhat is the parrot called?\n")
    assert done.code == 0
    out = done.out
    assert "no language model" in out
    assert (
        out.index("Lisbon")
        < out.index("answered at confidence")
        < out.index("unknown command /nosuch")
        < out.rindex("Biscuit")
    )


def test_quit_ends_the_chat_on_a_pipe(cli: Cli, base: tuple[str, ...]) -> None:
    done = cli("chat", *base, stdin=b"/quit\nWhat is the parrot called?\n")
    assert done.code == 0 and "Biscuit" not in done.out


def test_json_on_a_pipe_is_a_line_a_message(process: Cli, base: tuple[str, ...]) -> None:
    lines = "Where did Anna move to?\n\nMy name is Tomas.\nWhat is the parrot called?\n"
    done = process("chat", *base, "--json", stdin=lines.encode()).lines
    assert len(done) == 3
    assert all(set(d) >= {"text", "answer", "abstained", "citations", "usage", "ledger"} for d in done)
    assert "Lisbon" in done[0]["answer"] and "Tomas" in done[1]["text"] and "Biscuit" in done[2]["answer"]


def test_json_errors_are_lines_too_and_the_chat_goes_on(cli: Cli, base: tuple[str, ...]) -> None:
    backend = ("--backend", "tests.cli.broken_backend:BrokenBackend")
    done = cli("chat", *base, *backend, "--json", stdin=b"break\nHello\n").lines
    assert set(done[0]) >= {"error", "hint"} and "away" in done[0]["error"]
    assert done[1]["text"] == "Fine."


@pytest.mark.parametrize("line", ["/help", "/context", "/core", "/search parrot", "/why", "/nosuch", "/export"])
def test_with_json_nothing_but_json_stands_on_standard_output(cli: Cli, base: tuple[str, ...], line: str) -> None:
    done = cli("chat", *base, "--json", stdin=f"{line}\nWhere did Anna move to?\n".encode())
    rows = done.lines
    assert [set(r) >= {"error", "hint"} for r in rows] == [True, False]
    assert "Lisbon" in rows[-1]["answer"]


def test_bad_bytes_on_a_pipe(process: Cli, base: tuple[str, ...]) -> None:
    done = process("chat", *base, "--json", stdin=b"caf\xff\nWhere did Anna move to?\n")
    assert done.code == 0, done.err
    assert "error" in done.lines[0] and "Lisbon" in done.lines[-1]["answer"]
