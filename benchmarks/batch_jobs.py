"""Reflection jobs of many agents as requests, and a simulated prefix cache: what `batch_prefix.py` compares on."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from agentmem.reflection.material import DATA_RULE, material
from agentmem.types import ChatMessage, Message, Request

INSTRUCTIONS = (
    "You read what one person told an assistant and write down what can be concluded about them: at most five insights,"
    " each a plain sentence in the language of the records, each with the numbers of the records that it rests on.",
    "You keep a short page about one person up to date. Compare the page with the newer records and write the page"
    " again: keep what still holds, change what changed, and leave out what was said once in passing.",
    "You judge how much each record would matter to the person in a year, from 1 (small talk) to 10 (a turn in life),"
    " and name the two or three that explain your judgement best.",
    "You find pairs of records that say the same, and pairs in which the later one makes the earlier one out of date.",
)
QUESTIONS = ("work and plans", "family and friends", "health and habits", "places and journeys", "what changed lately",
             "promises made", "likes and dislikes", "worries")  # fmt: skip
_WORDS = (
    "the boat lies in the harbour and the spare key is under the blue pot my sister moved to a house near the lake last"
    " spring we walked along the river with the dog before the rain came she plays the cello in a small orchestra on"
    " Tuesdays our train was late so I read half of the book about bees he wants to learn to bake bread with rye"
)


class BlockCache:
    """A prefix cache that holds `capacity` blocks and forgets those unused for longest; a prompt's last ones first."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._kept: OrderedDict[int, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def take(self, path: Sequence[int]) -> int:
        """One prompt's blocks: how many, from the first on, were there. Those that do not fit are not kept."""
        hits = next((n for n, block in enumerate(path) if block not in self._kept), len(path))
        held = path[: self._capacity]
        for block in held:
            self._kept.pop(block, None)
        while len(self._kept) > self._capacity - len(held):
            self._kept.popitem(last=False)
        for block in reversed(held):
            self._kept[block] = None
        return hits


def jobs(
    agents: int = 200, strategies: int = 2, asks: int = 4, records: int = 24, *, arrival: str = "interleaved",
    seed: int = 0,
) -> list[Request]:  # fmt: skip
    """The jobs' requests in the order of their arrival: `interleaved`, agents in turn at random, each agent's own in
    their order; `by agent`, strategy by strategy and agent by agent."""
    if not (0 < strategies <= len(INSTRUCTIONS) and 0 < asks <= len(QUESTIONS)):
        raise ValueError(f"at most {len(INSTRUCTIONS)} strategies and {len(QUESTIONS)} questions")
    rng = random.Random(seed)
    queues = []
    for agent in range(agents):
        queue = []
        for strategy in range(strategies):
            shared = _material(agent, strategy, records, rng)
            system = ChatMessage("system", f"{INSTRUCTIONS[strategy]} {DATA_RULE}")
            for n in range(asks):
                user = ChatMessage("user", f"{shared}\n\nThe question: {QUESTIONS[n]}. Answer in JSON.")
                queue.append(Request((system, user), max_tokens=rng.choice((4, 8, 16))))
        queues.append(queue)
    if arrival == "by agent":
        return [r for s in range(strategies) for q in queues for r in q[s * asks : (s + 1) * asks]]
    turns = [agent for agent in range(agents) for _ in range(strategies * asks)]
    rng.shuffle(turns)
    waiting = [iter(q) for q in queues]
    return [next(waiting[agent]) for agent in turns]


def _material(agent: int, strategy: int, count: int, rng: random.Random) -> str:
    start = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=agent)
    words, said = _WORDS.split(), []
    for n in range(count):
        at = start + timedelta(hours=7 * n)
        text = " ".join(rng.choices(words, k=rng.randint(8, 18)))
        said.append(Message(n + 1, "assistant" if n % 2 else "user", text, at, at))
    return f"About {agent}, page {strategy}:\n{material(said).text}"


def strategy_of(request: Request) -> int:
    """Its number."""
    return next(n for n, text in enumerate(INSTRUCTIONS) if request.messages[0].content.startswith(text))


def agent_of(request: Request) -> int:
    """Its number."""
    return int(request.messages[1].content.split(",")[0].removeprefix("About "))
