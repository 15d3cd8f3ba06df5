"""The two prompts that the demo compares with: the last messages alone, and plain dense top-k, at the same budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentmem.paging import pack
from agentmem.types import Hit, Message, PageItem, Tier

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agentmem.protocols import Embedder, TokenCounter


@dataclass(frozen=True, slots=True)
class Baseline:
    """A way to fill a prompt: `items(question)` are the records that would stand in it."""

    name: str
    items: Callable[[str], Sequence[PageItem]]


def _hit(message: Message, score: float) -> Hit:
    return Hit(
        message.ref, Tier.RECALL, message.said, score, message.at, message.key, message.name, message.role,
        message.session, parts={"cosine": score},
    )  # fmt: skip


def last_messages(messages: Sequence[Message], max_tokens: int, counter: TokenCounter) -> Baseline:
    """As many of the newest messages as fit: an agent without a memory."""
    page = pack([_hit(m, 0.0) for m in reversed(messages)], "", max_tokens, counter)
    newest: list[PageItem] = []
    kept = {i.hit.id: i for i in page.items}
    for message in reversed(messages):
        if message.ref not in kept:
            break  # a gap: a sliding window has none
        newest.append(kept[message.ref])
    return Baseline("last messages only", lambda _question: newest)


def dense_top_k(messages: Sequence[Message], embedder: Embedder, max_tokens: int, counter: TokenCounter) -> Baseline:
    """The turns nearest to the question by cosine, until the budget is full: what most memory layers do."""
    texts = [f"{m.name}: {m.said}" if m.name else m.said for m in messages]
    rows: NDArray[np.float32] = embedder.embed(texts, input_type="document")

    def items(question: str) -> Sequence[PageItem]:
        import numpy as np

        scores = rows @ embedder.embed([question], input_type="query")[0]
        order = np.argsort(-scores, kind="stable")
        return pack([_hit(messages[i], float(scores[i])) for i in order], question, max_tokens, counter).items

    return Baseline("dense top-k", items)
