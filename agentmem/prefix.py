"""Which part of a prompt an engine's prefix cache holds already, and the cause in words where it ends.

vLLM reuses the key-value blocks of an identical token prefix (automatic prefix caching): whole blocks only, and never
the prompt's last token. What breaks a prefix is known from the plans of the two prompts.
"""

from __future__ import annotations

from dataclasses import dataclass

from agentmem.context import PromptPlan
from agentmem.encoding import Encoding, PrefixReport, shared_with_reply
from agentmem.planning import Fitted
from agentmem.types import Completion

FIRST = "first request of this agent here: nothing to reuse but what other agents share"
NEXT_TURN = "a new turn: the tail of the last one is gone, and what it brought stands in the queue now"


@dataclass(frozen=True, slots=True)
class _Last:
    plan: PromptPlan
    encoding: Encoding
    generated: tuple[int, ...] = ()
    divergence: str = ""


class PrefixTracker:
    """Compares each prompt of one agent with the one before. Only for counters that know a prompt's tokens."""

    def __init__(self) -> None:
        self._last: _Last | None = None

    def report(self, fitted: Fitted, block_size: int | None) -> PrefixReport | None:
        """What is reusable of a prompt that is about to be sent; None where tokens are not known."""
        if fitted.encoding is None:
            return None
        last, now = self._last, fitted.encoding
        self._last = _Last(fitted.plan, now)
        if last is None:
            return PrefixReport(0, len(now), block_size, cause=FIRST)
        tokens = shared_with_reply(last.encoding, last.generated, now)
        return PrefixReport(tokens, len(now), block_size, cause=_cause(last, fitted.plan, tokens))

    def answered(self, completion: Completion, divergence: str) -> None:
        """What was generated for the last prompt; `divergence` is why it will stand otherwise in the next."""
        if self._last is not None:
            # The last token of an answer that was cut has not been through the model: it is in no cache.
            ids = completion.token_ids if completion.finish_reason != "length" else completion.token_ids[:-1]
            self._last = _Last(self._last.plan, self._last.encoding, ids, divergence)


def measured(report: PrefixReport, completion: Completion) -> PrefixReport:
    """The report with what the engine says it took from its cache."""
    cached, cause = completion.usage.cached_tokens, report.cause
    expected = report.reusable
    if cached is None:
        said = "the backend does not say what it took from its cache"
    elif expected is not None and cached < expected:
        said = f"the engine had {cached} of {expected} reusable tokens: the rest was evicted, or is under another salt"
    else:
        said = ""
    cause = "; ".join(c for c in (cause, said) if c)
    return PrefixReport(report.tokens, report.total, report.block_size, cached, cause)


def _cause(last: _Last, plan: PromptPlan, tokens: int) -> str:
    before = last.plan
    if plan.epoch != before.epoch:
        return f"epoch {plan.epoch} began: older turns were paged out, or edits of core memory folded in"
    if (plan.mode, plan.template) != (before.mode, before.template):
        return "the way in which tools reach the model changed"
    if plan.summary != before.summary:
        return "the summary stands back in this prompt" if before.summary else "the summary stands in the prompt again"
    if plan.earlier != before.earlier:
        return f"{plan.earlier} lines of the compressed history stand in this prompt, {before.earlier} stood before"
    if plan.first != before.first and plan.last >= plan.first and before.last >= before.first:
        return f"the queue begins at m{plan.first}, and began at m{before.first}: it did not fit this prompt"
    shared = {i for i, *_ in plan.cuts} | {i for i, *_ in before.cuts}
    changed = [i for i in sorted(shared) if i <= before.last and _cut(plan, i) != _cut(before, i)]
    if changed:
        return f"message m{changed[0]} is shortened otherwise than before"
    if plan.turn[:1] != before.turn[:1]:
        return NEXT_TURN
    if tokens < len(last.encoding):
        if plan.pieces != before.pieces:
            return "less was paged in than at the step before: the turn's own messages needed the room"
        if plan.last_step != before.last_step or plan.pressure != before.pressure:
            return "a note in the tail came or went"
    # The opening of the reply is the prompt's end: templates may render an answer in the history otherwise.
    return last.divergence


def _cut(plan: PromptPlan, message: int) -> tuple[int, int, int] | None:
    return next((c for c in plan.cuts if c[0] == message), None)
