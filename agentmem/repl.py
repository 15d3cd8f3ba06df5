"""The chat: a line of input, a streamed reply, and the commands that show what memory did.

On a terminal it has history (of what the user said, from recall: no file of its own), completion and multi-line input;
on a pipe it reads a message a line. Ctrl-C stops a reply, not the program; Ctrl-D or /quit ends it.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from agentmem import output
from agentmem.errors import AgentMemError, StoreBusyError
from agentmem.times import day_words
from agentmem.types import Event, Reply

if TYPE_CHECKING:
    from filelock import BaseFileLock

    from agentmem.agent import Agent

HELP = """\
/context        where the tokens of the last prompt are
/core           the core-memory blocks; /core LABEL TEXT adds a line
/search TEXT    look something up
/why            the last page-in: what was found, and why
/reflect        learn from what is stored: /reflect [STRATEGY ...]; a model's plan and cost are shown first, and
                asked about (--rules goes without it, --max-calls N and --max-tokens N give less, --dry-run looks)
/undo           take back the last job of /reflect; /undo JOB that one
/export FILE    a full archive of this agent
/help           this list
/quit           end (or Ctrl-D)
Alt-Enter begins a new line; Ctrl-C stops a reply."""
COMMANDS = ("/context", "/core", "/search", "/why", "/reflect", "/undo", "/export", "/help", "/quit")


def run(agent: Agent, *, as_json: bool) -> None:
    """Chat until the input ends. Raises StoreBusyError when another chat holds the agent."""
    lock = hold(agent)
    try:
        chat = Chat(agent, as_json=as_json)
        if as_json or not sys.stdin.isatty():
            chat.piped(line.rstrip("\n") for line in sys.stdin)
        else:
            chat.interactive()
    finally:
        agent.close()
        if lock is not None:
            lock.release()


def hold(agent: Agent) -> BaseFileLock | None:
    """The lock of a chat on this agent; it goes with the process, however that ends. None for a store in RAM."""
    from filelock import FileLock, Timeout

    memory = agent.memory
    if memory.store.folder is None:
        return None
    memory.store.folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(memory.store.folder / f"agent-{memory.records.agent_id}.chat.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as e:
        raise StoreBusyError(
            f"another chat is open on agent {memory.agent_name!r} of {memory.store.path}",
            hint="close it, or talk to another agent: --agent NAME (agentmem ask and ingest may run beside a chat)",
        ) from e
    return lock


class Chat:
    """One conversation at the terminal."""

    def __init__(self, agent: Agent, *, as_json: bool) -> None:
        from agentmem.screen import console

        self.agent = agent
        self.memory = agent.memory
        self.as_json = as_json
        self.out = console()
        self.last: Reply | None = None
        self.memory.on_event = None if as_json else self.show_event

    # -- input ------------------------------------------------------------------------------------------------

    def piped(self, lines: Iterator[str]) -> None:
        """A message a line."""
        if not self.as_json:
            self.greet()
        for line in lines:
            if line.strip() and not self.handle(line):
                return

    def interactive(self) -> None:
        """At a terminal."""
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import WordCompleter
        from prompt_toolkit.history import InMemoryHistory
        from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

        history = InMemoryHistory()
        last = self.memory.records.recall.last_id()
        for message in self.memory.records.recall.since(max(1, last - 400)):
            if message.role == "user" and "\n" not in message.content:
                history.append_string(message.content)
        bindings = KeyBindings()

        @bindings.add("escape", "enter")
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        session: PromptSession[str] = PromptSession(
            history=history,
            completer=WordCompleter(list(COMMANDS), sentence=True),
            complete_while_typing=False,
            key_bindings=bindings,
        )
        self.greet()
        while True:
            try:
                line = session.prompt("> ")
            except KeyboardInterrupt:
                continue
            except EOFError:
                return
            if line.strip() and not self.handle(line):
                return

    def greet(self) -> None:
        """Say what answers here."""
        counted = self.memory.pager.state()[1]
        self.out.print(f"agentmem, agent {self.memory.agent_name!r} in {self.memory.store.path}")
        self.out.print(self.agent.backend.describe())
        if counted:
            self.out.print(f"{self.memory.records.recall.last_id()} messages so far, {len(counted)} in the prompt.")
        for notice in dict.fromkeys(self.memory.notices):
            self.out.print(f"note: {notice}")
        self.out.print("/help lists the commands.")

    # -- one line ---------------------------------------------------------------------------------------------

    def handle(self, line: str) -> bool:
        """Carry out a command or a turn; False to end. What goes wrong is said, and the chat goes on."""
        try:
            if line.startswith("/"):
                return self.json_command(line) if self.as_json else self.command(line)
            self.turn(line)
        except AgentMemError as e:
            if self.as_json:
                print(output.dumps({"error": e.message, "hint": e.hint}), flush=True)  # noqa: T201
            else:
                self.out.print(f"error: {e}")
        return True

    def json_command(self, line: str) -> bool:
        """With --json only the command that ends is one: what the others draw is for people."""
        name = line.split()[0]
        if name in ("/quit", "/exit"):
            return False
        hint = "agentmem context, search, stats, reflect, undo and export do it with --json"
        print(output.dumps({"error": f"{name} is a command of the chat for people", "hint": hint}), flush=True)  # noqa: T201
        return True

    def turn(self, text: str) -> None:
        """A message to the agent."""
        if self.as_json:
            print(output.dumps(output.reply(None, self.agent.send(text))), flush=True)  # noqa: T201
            return
        chunks = self.agent.stream(text)
        try:
            for chunk in chunks:
                if chunk.text:
                    self.out.file.write(chunk.text)
                    self.out.file.flush()
                self.last = chunk.reply or self.last
            self.out.print()
        except KeyboardInterrupt:
            chunks.close()  # type: ignore[attr-defined]
            self.out.print("\n(stopped; what you said is kept)")

    def show_event(self, event: Event) -> None:
        """A line for what was paged out or in."""
        p = event.payload
        if event.kind == "page_out":
            self.out.print(
                f"[paged out {p['messages']} messages, m{p['from']} to m{p['to']}: {p['tokens_before']} -> "
                f"{p['tokens_after']} tokens; epoch {p['epoch']}]",
                style="dim",
            )
        elif event.kind == "page_in" and p["items"]:
            self.out.print(f"[paged in {len(p['items'])} records, {p['num_tokens']} tokens; /why]", style="dim")
        elif event.kind in ("index_rebuilt", "summary_fallback", "token_mismatch"):
            self.out.print(f"[{event.kind.replace('_', ' ')}: {p.get('reason') or p.get('cause', '')}]", style="dim")

    # -- commands ---------------------------------------------------------------------------------------------

    def command(self, line: str) -> bool:
        """Carry out a slash command; False for the one that ends."""
        name, _, rest = line.strip().partition(" ")
        if name in ("/quit", "/exit"):
            return False
        actions: dict[str, Callable[[str], None]] = {
            "/help": lambda _: self.out.print(HELP),
            "/context": lambda _: self.context(),
            "/core": self.core,
            "/search": self.search,
            "/why": lambda _: self.why(),
            "/reflect": self.reflect,
            "/undo": self.undo,
            "/export": self.export,
        }
        if name not in actions:
            self.out.print(f"unknown command {name}; there are: {' '.join(COMMANDS)}")
        else:
            actions[name](rest.strip())
        return True

    def context(self) -> None:
        """Draw the ledger of the last prompt, or of the one that would be sent now."""
        from agentmem.screen import ledger_bar, ledger_table, prefix_lines

        ledger = self.last.ledger if self.last is not None else self.memory.render().ledger
        self.out.print(ledger_bar(ledger))
        self.out.print(ledger_table(ledger))
        epoch, queue = self.memory.pager.state()
        covered = f"m{epoch.summary_from} to m{epoch.summary_to}" if epoch.summary_to else "nothing yet"
        self.out.print(f"epoch {epoch.number}, {len(queue)} messages in the queue, summary covers {covered}")
        for line in prefix_lines(self.last.prefixes if self.last is not None else ()):
            self.out.print(line)

    def core(self, rest: str) -> None:
        """Show the blocks, or add a line to one."""
        label, _, text = rest.partition(" ")
        if text.strip():
            self.memory.core[label].append(text)
        for name in self.memory.core:
            block = self.memory.core.block(name)
            used = self.memory.shape.counter.count(block.value)
            lock = ", read-only" if block.read_only else ""
            self.out.print(f"{name} ({used} of {block.max_tokens} tokens{lock})", style="bold")
            self.out.print(block.value or "(empty)")

    def search(self, query: str) -> None:
        """Look something up."""
        from agentmem.screen import show_hits

        show_hits(self.memory.search(query, top_k=8))

    def why(self) -> None:
        """The last page-in, best first, with the parts of each score; what was shortened beside the original."""
        from agentmem.screen import parts_line, show_shortened

        if self.last is None or not self.last.page.items:
            self.out.print("nothing was paged in for the last message")
            return
        for hit in self.last.page.hits:
            who = hit.name or hit.role or "memory"
            self.out.print(
                f"{hit.score:.3f} {hit.key or hit.id} {day_words(hit.at)} {who}: {' '.join(hit.text.split())[:160]}"
            )
            if hit.parts:
                self.out.print(f"      {parts_line(hit.parts)}", style="dim")
            show_shortened(self.out, self.last.page, hit.id)
        if self.last.confidence is not None:
            stated = "abstained" if self.last.abstained else "answered"
            self.out.print(f"{stated} at confidence {self.last.confidence:.2f}")

    def reflect(self, rest: str) -> None:
        """Run strategies. The chat's lock is on the chat alone: a job of another process is told of."""
        from agentmem.repl_reflect import reflect_here

        reflect_here(self.agent, rest, self.out.print, self.asked)

    def asked(self, question: str) -> str:
        """The next line of the input, as the answer to a question; "" at its end."""
        self.out.file.write(question)
        self.out.file.flush()
        return sys.stdin.readline()

    def undo(self, rest: str) -> None:
        """Take back a job."""
        from agentmem.repl_reflect import undo_here

        undo_here(self.memory, rest, self.out.print)

    def export(self, rest: str) -> None:
        """Write an archive."""
        from agentmem.archive_file import export_lines

        try:
            names = shlex.split(rest)
        except ValueError:  # a quotation mark without its other
            names = []
        if len(names) != 1:
            self.out.print("give one file name: /export anna.jsonl")
            return
        path = Path(names[0])
        try:
            path.write_text("".join(f"{line}\n" for line in export_lines(self.memory)), encoding="utf-8")
        except OSError as e:
            self.out.print(f"error: {path}: {e.strerror}")
            return
        self.out.print(f"written to {path}")
