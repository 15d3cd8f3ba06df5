"""What came of one question on one rung, as it is measured: what stood in the prompt, what was said, what it cost."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from agentmem.cap_baselines import spoken
from agentmem.context import shown_keys
from agentmem.history import item_of
from agentmem.paging import label
from agentmem.types import SECTIONS

if TYPE_CHECKING:
    from agentmem.cap_meter import MeteredBackend
    from agentmem.encoding import PrefixReport
    from agentmem.memory import Memory
    from agentmem.planning import Fitted


@dataclass(frozen=True, slots=True)
class Asked:
    """One question on one rung. `records` is the text of what was read of memory, `shown` and `whole` the tokens of the
    paged-in records as they stand and as they are stored; `said` is the text to score. Times are seconds, None where
    there was nothing to time."""

    keys: tuple[str, ...]
    shortened: tuple[str, ...]
    records: str
    reach: tuple[int, int]
    shown: int
    whole: int
    sections: dict[str, int]
    said: str
    text: str
    declined: bool
    error: str = ""
    notices: tuple[str, ...] = ()
    retrieve_s: float = 0.0
    assemble_s: float = 0.0
    first_s: float | None = None
    model_s: float = 0.0
    written_s: float | None = None
    written: int = 0
    calls: int = 0
    tokens: int = 0
    reused: tuple[int, int] | None = None


def of_prompt(memory: Memory, fitted: Fitted) -> Asked:
    """What stands in a prompt, with nothing answered yet."""
    plan, counter, recall = fitted.plan, memory.shape.counter, memory.records.recall
    queue = recall.since(plan.first, plan.last) if plan.last >= plan.first else []
    epoch, _ = memory.pager.state()
    keys, shortened = shown_keys(plan, {m.id: m for m in queue}, fitted.page, epoch.compressed)
    # (what stands there, what the record says, who said it)
    shown = [(i.text, i.hit.text, i.hit.name) for i in fitted.page.items]
    lines = {e.message: e.line for e in epoch.compressed[len(epoch.compressed) - plan.earlier :]}
    for m in recall.get(list(lines)):
        shown.append((lines[m.id].removeprefix(f"{label(item_of(m).hit)} "), m.said, m.name))
    read = [
        text
        for section, text in chain.from_iterable(w.segments for w in fitted.written)
        if section in ("summary", "compressed", "queue") or (section == "tail" and text.startswith("<memory>"))
    ]
    tokens = sum(counter.count(spoken(m)) for m in queue)
    tokens += sum(counter.count(f"{name}: {text}" if name else text) for text, _, name in shown)
    return Asked(
        keys, shortened, "\n".join(read), (len(queue) + len(shown), tokens),
        sum(counter.count(text) for text, _, _ in shown), sum(counter.count(said) for _, said, _ in shown),
        {section: fitted.ledger.sections.get(section, 0) for section in SECTIONS}, "", "", False,
    )  # fmt: skip


def costs(backend: MeteredBackend) -> dict[str, Any]:
    """The times of the model's calls; tokens per second are those behind the first where it streams."""
    calls = backend.calls
    if not calls:
        return {}
    done = [c for c in calls if c.ended]
    first = calls[0].first
    written = sum(c.tokens - (c.first is not None) for c in done if c.tokens)
    return {
        "first_s": first - calls[0].started if first is not None else None,
        "model_s": sum(c.ended - c.started for c in done),
        "written_s": sum(c.ended - (c.first if c.first is not None else c.started) for c in done),
        "written": written,
    }


def reused_tokens(reports: tuple[PrefixReport, ...]) -> tuple[int, int] | None:
    """(tokens that were, or could be, taken from a prefix cache; all), where tokens are known."""
    if not reports:
        return None
    used = [r.cached if r.cached is not None else r.reusable if r.reusable is not None else r.tokens for r in reports]
    return sum(used), sum(r.total for r in reports)
