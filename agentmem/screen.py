"""What people see of hits, prompts and page-ins in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agentmem.encoding import PrefixReport
from agentmem.times import day_words
from agentmem.types import SECTIONS, Hit, Ledger, Page, Prompt

BAR = 40
COLOURS = dict(zip(SECTIONS, ("blue", "magenta", "yellow", "yellow", "green", "cyan", "white"), strict=True))
PARTS = ("cosine", "bm25")


def console(*, stderr: bool = False) -> Console:
    """A console that prints text as it is: a message is never markup."""
    return Console(stderr=stderr, highlight=False, markup=False, soft_wrap=False)


def show_hits(hits: Sequence[Hit]) -> None:
    """A table of hits; with the parts of their scores where they have them."""
    if not hits:
        console().print("nothing found")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("score", "id", "when", "who", "text"):
        table.add_column(column, overflow="fold", no_wrap=column in ("score", "id", "when"))
    for h in hits:
        who = h.name or h.role or h.tier.value
        text = " ".join(h.text.split())
        table.add_row(f"{h.score:.3f}", h.key or h.id, day_words(h.at), who, Text(text[:300]))
        if h.parts is not None:
            table.add_row("", "", "", "", Text(parts_line(h.parts), style="dim"))
    console().print(table)


def parts_line(parts: Any) -> str:
    """The raw signals, then what each feature added to the score."""
    raw = [f"{n} {parts[n]:.3f}" for n in PARTS if n in parts]
    added = [f"{n} {v:+.2f}" for n, v in parts.items() if n not in (*PARTS, "score", "total") and abs(v) >= 0.005]
    return f"{', '.join(raw)} | {' '.join(added)}"


def ledger_bar(ledger: Ledger) -> Text:
    """Where the tokens are, drawn."""
    bar = Text()
    whole = max(1, ledger.max_tokens)
    drawn = 0
    for section in SECTIONS:
        share = round(BAR * ledger.sections[section] / whole)
        bar.append("█" * share, style=COLOURS[section])
        drawn += share
    bar.append("░" * max(0, BAR - drawn), style="dim")
    bar.append(f" {ledger.total} of {ledger.max_tokens} tokens{'' if ledger.exact else ' (estimated)'}")
    return bar


def ledger_table(ledger: Ledger) -> Table:
    """Tokens per section."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for section in SECTIONS:
        if tokens := ledger.sections[section]:
            table.add_row(Text("█ " + section, style=COLOURS[section]), str(tokens))
    return table


def prefix_lines(prefixes: Sequence[PrefixReport]) -> list[str]:
    """How much of each prompt of a turn was there before, and how much the engine took from its cache."""
    lines = []
    for n, p in enumerate(prefixes, 1):
        blocks = f", {p.blocks} blocks of {p.block_size}" if p.blocks is not None else ""
        cached = f"; the engine took {p.cached} from its cache" if p.cached is not None else ""
        cause = f" ({p.cause})" if p.cause else ""
        lines.append(f"prefix of step {n}: {p.tokens} of {p.total} tokens as before{blocks}{cached}{cause}")
    return lines


def show_shortened(out: Console, page: Page, ref: str) -> None:
    """Of a record that was shortened what stands in the prompt, and the whole."""
    item = next((i for i in page.items if i.hit.id == ref and not i.whole), None)
    if item is not None:
        out.print(Text("      in the prompt: ", style="dim").append(" ".join(item.text.split()), style="bold"))
        out.print(Text(f"      whole: {' '.join(item.hit.text.split())}", style="dim"))


def show_prompt(prompt: Prompt) -> None:
    """The messages, then the ledger."""
    out = console()
    for message in prompt.messages:
        out.print(Text(f"--- {message.role}", style="bold"))
        out.print(Text(message.content))
        for call in message.tool_calls:
            out.print(Text(f"{call.name}({call.arguments})", style="dim"))
    out.print()
    out.print(ledger_bar(prompt.ledger))
    out.print(ledger_table(prompt.ledger))
