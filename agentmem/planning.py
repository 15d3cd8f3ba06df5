"""Fitting a prompt into its budget: who gets how many tokens, and who gives way first. Pure but for counting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from agentmem import prompts
from agentmem.budget import Budget
from agentmem.context import PromptPlan, Written, render
from agentmem.encoding import Encoding, ToolMode
from agentmem.errors import ContextOverflowError, InvalidInputError
from agentmem.eviction import whole_cuts
from agentmem.history import earlier_fitting, history_text
from agentmem.ledger import Bookkeeper
from agentmem.paging import shrunk
from agentmem.protocols import PromptTokenizer, TokenCounter
from agentmem.queue import chat_message, entry_of, shorten, too_long_calls
from agentmem.tokens import cut_text
from agentmem.types import EMPTY_PAGE, ChatMessage, Earlier, Epoch, Ledger, Message, Page, ToolSpec

PageFor = Callable[[int, frozenset[str]], Page]
"""(tokens, refs that stand in the prompt already) -> what to page in."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How the backend sees a prompt: its tokenizer, and how tools reach it (`tools` are schemas in the prompt)."""

    counter: TokenCounter
    tools: tuple[ToolSpec, ...] = ()
    mode: ToolMode = "none"
    books: Bookkeeper = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "books", Bookkeeper(self.counter))

    @property
    def model(self) -> bool:
        """Whether a language model reads the prompt."""
        return self.mode != "none"

    @property
    def calls(self) -> bool:
        """Whether it can call the memory tools."""
        return self.mode in ("native", "json")


@dataclass(frozen=True, slots=True)
class Ask:
    """What a prompt is made for: the stored messages of the turn (the user's first), or a literal query.

    `page` is given from the second step of a turn on: within a turn the tail stays as it was.
    `page_share` is the least share of what is left after system, core and question that the page-in keeps,
    `page_min` the least number of tokens.
    """

    turn: tuple[Message, ...] = ()
    query: str = ""
    clock: str = ""
    pressure: bool = False
    last_step: bool = False
    page: Page | None = None
    page_share: float = 0.5
    page_min: int = 0
    page_max: int = 3000
    pageable: bool = True
    """Whether memory holds anything that is not in the queue."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A plan with what it renders to."""

    plan: PromptPlan
    written: tuple[Written, ...]
    ledger: Ledger
    page: Page
    encoding: Encoding | None = None
    """The prompt's tokens, from counters that know them."""


def message_cost(message: Message, entry_tokens: int, shape: Shape) -> int:
    """Tokens of a message in the queue, shortened if it must be, with the template's wrappers."""
    counter = shape.counter
    cut, bare = shorten(message, entry_tokens, counter), too_long_calls(message, entry_tokens, counter)
    return counter.count_message(chat_message(message, cut, bare, shape.mode))


def shown_short(
    messages: Sequence[Message], entry_tokens: int, counter: TokenCounter
) -> tuple[list[tuple[int, int, int]], list[int]]:
    """(cuts, messages without arguments) of messages as they stand in the queue."""
    cuts = [(m.id, *cut) for m in messages if (cut := shorten(m, entry_tokens, counter)) is not None]
    return cuts, [m.id for m in messages if too_long_calls(m, entry_tokens, counter)]


def head_cost(epoch: Epoch, shape: Shape) -> int:
    """Tokens of the part that never gives way: system, tools and core memory."""
    text = prompts.system_text(shape.mode)
    if epoch.blocks:
        text += "\n" + prompts.core_text(epoch.blocks)
    # Many templates refuse a prompt without a user's message.
    user = ChatMessage("user", "x")
    return shape.counter.count_prompt([ChatMessage("system", text), user], shape.tools) - shape.counter.count_message(
        user
    )


def summary_cost(epoch: Epoch, shape: Shape) -> int:
    """Tokens of the summary."""
    return shape.counter.count(prompts.summary_text(epoch.summary)) if epoch.summary else 0


def earlier_cost(entries: Sequence[Earlier], shape: Shape) -> int:
    """Tokens of lines of the compressed history."""
    return shape.counter.count(prompts.earlier_text(history_text(entries))) if entries else 0


def fit(epoch: Epoch, queue: Sequence[Message], ask: Ask, max_tokens: int, shape: Shape, page_for: PageFor) -> Fitted:
    """A prompt of at most `max_tokens`. Where it is short, the queue's oldest go first, then the oldest of the
    compressed history, then the summary; what the turn itself brought is shortened, the page-in keeps its share (and is
    shrunk only where the turn leaves nothing).

    Raises ContextOverflowError when system, tools and core memory alone do not fit.
    """
    if max_tokens < 1:
        raise InvalidInputError("max_tokens", max_tokens, "must be at least 1")
    slack = 0
    # How far an entry of the queue is shortened depends on the budget alone: its bytes must not change for a slack.
    entry = max(24, max_tokens // 8)
    for _ in range(12):
        plan, page, written = _fit(epoch, queue, ask, max_tokens - slack, entry, shape, page_for)
        encoding = None
        if isinstance(counter := shape.counter, PromptTokenizer):
            encoding = counter.encode_prompt([w.message() for w in written], shape.tools)
        counted = shape.books.ledger(written, shape.tools, max_tokens, encoding)
        if counted.total <= max_tokens:
            return Fitted(plan, written, counted, page, encoding)
        # Parts counted apart can be fewer tokens than the whole where a tokenizer is not additive.
        slack += counted.total - max_tokens + 1
    raise ContextOverflowError("the prompt", counted.total, max_tokens, hint="give a larger --window")


def _fit(
    epoch: Epoch, queue: Sequence[Message], ask: Ask, max_tokens: int, entry: int, shape: Shape, page_for: PageFor
) -> tuple[PromptPlan, Page, tuple[Written, ...]]:
    counter = shape.counter
    fixed = head_cost(epoch, shape)
    # The line ends between parts of a message cost a token each where a tokenizer does not split at them.
    joint = 0 if counter.additive else 1
    wrapper = counter.count_message(ChatMessage("user", "x")) - counter.count("x")
    scaffold = (wrapper if not ask.turn else 0) + (counter.count(f"Now: {ask.clock}") + joint if ask.clock else 0)
    scaffold += counter.count(prompts.PRESSURE_NOTE) + joint if ask.pressure else 0
    scaffold += counter.count_message(ChatMessage("user", prompts.LAST_STEP_NOTE)) if ask.last_step else 0
    left = max_tokens - fixed - scaffold
    if left <= 0:
        raise ContextOverflowError(
            "the system instructions and core memory",
            fixed + scaffold,
            max_tokens,
            hint="give a larger --window or --max-tokens, or shorten the core-memory blocks",
        )
    cuts: list[tuple[int, int, int]] = []
    bare: list[int] = []
    # From the second step on the page is what it was: the turn's own messages share what it leaves.
    held = counter.count(prompts.memory_text(ask.page.text)) if ask.page is not None and ask.page.items else 0
    turn_cost = _turn(ask, max(16, left - held), entry, shape, cuts, bare)
    query, query_cost = _query(ask, left, counter)
    left = max(0, left - turn_cost - query_cost)
    tags = counter.count(prompts.memory_text("")) + 2 * joint
    page = ask.page
    if page is not None and held > left:
        page = shrunk(page, max(0, left - tags), counter)
        held = counter.count(prompts.memory_text(page.text)) if page.items else 0
    costs = [message_cost(m, entry, shape) for m in queue]
    summary = summary_cost(epoch, shape)
    history = earlier_cost(epoch.compressed, shape)
    if ask.page is not None:
        wanted = held
    elif not ask.pageable and sum(costs) + summary + history <= left:
        wanted = 0
    else:
        wanted = min(max(ask.page_min, int(left * ask.page_share)), ask.page_max + tags, left)
    room = left - wanted
    with_summary = 0 < summary <= room
    room -= summary if with_summary else 0
    settled = with_summary or not summary
    lines = len(epoch.compressed)
    if history + sum(costs) > room:
        # The queue's oldest give way first, but its newest messages are worth more than older ones shortened.
        most = max(room // 2, room - sum(costs)) if settled else 0
        lines = earlier_fitting(epoch.compressed, most, lambda some: earlier_cost(some, shape))
        history = earlier_cost(epoch.compressed[len(epoch.compressed) - lines :], shape)
    room -= history
    start = len(queue)
    # The queue gives way before the summary does.
    while start > 0 and settled and costs[start - 1] <= room:
        start -= 1
        room -= costs[start]
    # Where a call did not fit its result goes too: none stands alone.
    start = next((n for n in whole_cuts([entry_of(m, 0) for m in queue]) if n >= start), len(queue))
    kept = queue[start:]
    queue_cuts, queue_bare = shown_short(kept, entry, counter)
    cuts += queue_cuts
    bare += queue_bare
    if page is None:
        told = (f"m{e.message}" for e in epoch.compressed[len(epoch.compressed) - lines :] if e.whole)
        visible = frozenset((*(m.ref for m in (*kept, *ask.turn)), *told))
        free = left - sum(costs[start:]) - (summary if with_summary else 0) - history - tags
        needed = ask.pageable or len(kept) < len(queue) or not shape.calls
        # A model's tool results of this turn must find room behind the page, or the queue would have to give it.
        most = max(ask.page_min, free - max_tokens // 4) if shape.calls and ask.turn else free
        page = page_for(min(free, most, ask.page_max), visible) if free > 0 and needed else EMPTY_PAGE
    plan = PromptPlan(
        epoch=epoch.number,
        first=kept[0].id if kept else 1,
        last=kept[-1].id if kept else 0,
        turn=tuple(m.id for m in ask.turn),
        query=query,
        cuts=tuple(cuts),
        bare_calls=tuple(bare),
        pieces=tuple(i.piece for i in page.items),
        summary=with_summary,
        earlier=lines,
        clock=ask.clock,
        pressure=ask.pressure,
        last_step=ask.last_step,
        mode=shape.mode,
    )
    return plan, page, render(plan, epoch, {m.id: m for m in (*kept, *ask.turn)}, page.items)


def _query(ask: Ask, left: int, counter: TokenCounter) -> tuple[str, int]:
    """A literal query, cut to half of what is left."""
    if not ask.query:
        return "", 0
    length = cut_text(ask.query, left // 2, counter)
    text = ask.query[:length]
    return text, counter.count(text)


def _turn(ask: Ask, left: int, entry: int, shape: Shape, cuts: list[tuple[int, int, int]], bare: list[int]) -> int:
    """Tokens of the turn's own messages. The user's text may take half of what is left. Where all is more than three
    quarters, what the turn brought first is shortened first: the newest result is what the model asked for."""
    if not ask.turn:
        return 0
    user, rest = ask.turn[0], ask.turn[1:]
    caps = {m.id: entry * 2 for m in rest}
    caps[user.id] = max(16, left // 2)
    costs = {m.id: message_cost(m, caps[m.id], shape) for m in ask.turn}
    for most in (max(16, entry // 2), 16):
        for m in (*rest, user):
            if sum(costs.values()) <= left * 3 // 4:
                break
            caps[m.id] = min(caps[m.id], most)
            costs[m.id] = message_cost(m, caps[m.id], shape)
    for m in ask.turn:
        turn_cuts, turn_bare = shown_short([m], caps[m.id], shape.counter)
        cuts += turn_cuts
        bare += turn_bare
    return sum(costs.values())


def used_tokens(epoch: Epoch, queue_tokens: int, budget: Budget, shape: Shape) -> int:
    """What pressure is measured by: the prompt as it would be, with the tokens that are kept for a page-in."""
    kept = budget.page_floor + (budget.turn_room if shape.calls else 0)
    frozen = head_cost(epoch, shape) + summary_cost(epoch, shape) + earlier_cost(epoch.compressed, shape)
    return frozen + queue_tokens + kept
