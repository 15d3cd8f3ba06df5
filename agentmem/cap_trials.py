"""The trials of `agentmem.cap_position`: invented documents and JSON pairs, made with a seed, and when one is answered.

After the two tasks of "Lost in the Middle" (arXiv 2307.03172, sections 2 and 3). Their documents are from Wikipedia;
ours tell of invented people, so that no model knows the answer without reading. The other documents tell the same
things of other people: hard negatives.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from agentmem.types import ChatMessage

PAIRS_PER_DOCUMENT = 3
"""A JSON pair of two UUIDs has a third or half of the tokens of a document."""
_FIRST = (
    "Ada", "Boris", "Clara", "Dimitri", "Elena", "Felix", "Greta", "Hugo", "Irma", "Jonas", "Katya", "Luis", "Mira",
    "Nadia", "Oscar", "Petra", "Quinn", "Rosa",
)  # fmt: skip
_TRADES = (
    "baker", "glazier", "surveyor", "carpenter", "nurse", "beekeeper", "printer", "tailor", "gardener", "translator",
    "mason", "courier",
)  # fmt: skip
_HABITS = (
    "keeps a notebook of every walk and lends it to the neighbours in winter",
    "sings in a small choir that meets above the old post office",
    "repairs clocks for friends and never asks for money",
    "swims in the lake before breakfast, whatever the weather",
    "is known for long letters, written in green ink",
    "grows beans and quinces behind the house",
    "has read the same novel every autumn for twenty years",
    "plays chess by post with a cousin overseas",
)
_QUESTIONS = (
    "In which town did {} grow up?",
    "What is the name of the boat that {} owns?",
    "Which firm does {} work for?",
)


@dataclass(frozen=True, slots=True)
class Item:
    """One document, or one pair: how it is shown, and the answer that it holds."""

    text: str
    answer: str


@dataclass(frozen=True, slots=True)
class Trial:
    """A question whose answer `gold` alone holds, among `others`, in their order."""

    question: str
    gold: Item
    others: tuple[Item, ...]

    def items(self, place: int) -> tuple[Item, ...]:
        """All items, the gold one at `place` (0 is the first)."""
        return (*self.others[:place], self.gold, *self.others[place:])


@dataclass(frozen=True, slots=True)
class Task:
    """A kind of trial: `make(random, items)` gives one, `write` the prompt's text of its items and question."""

    name: str
    instruction: str
    items_per_document: int
    make: Callable[[Random, int], Trial]
    write: Callable[[Sequence[Item], str], str]

    def messages(self, trial: Trial, place: int) -> tuple[ChatMessage, ...]:
        """The prompt with the gold item at `place`; the question stands last."""
        return (
            ChatMessage("system", self.instruction),
            ChatMessage("user", self.write(trial.items(place), trial.question)),
        )


def make_trials(task: Task, seed: int, items: int, trials: int) -> list[Trial]:
    """So many trials with so many items each; trial n is the same however many there are."""
    return [task.make(Random(f"{task.name} {seed} {items} {n}"), items) for n in range(trials)]


def is_right(text: str, trial: Trial) -> bool:
    """Whether the gold answer stands in the text and no other item's does (best sub-span match, after normalising)."""
    said = f" {_normal(text)} "

    def named(item: Item) -> bool:
        return f" {_normal(item.answer)} " in said

    return named(trial.gold) and not any(named(i) for i in trial.others)


def _normal(text: str) -> str:
    """SQuAD's normalising (arXiv 1606.05250, evaluation script): lower case, without punctuation and articles."""
    bare = re.sub(r"[^\w\s]|_", "", text.lower())
    return " ".join(w for w in bare.split() if w not in ("a", "an", "the"))


def _documents(random: Random, count: int) -> Trial:
    words = _invented(random, 4 * count)
    kind = random.randrange(len(_QUESTIONS))
    people: list[str] = []
    items: list[Item] = []
    for n in range(count):
        family, *facts = (w.capitalize() for w in words[4 * n : 4 * n + 4])
        town, boat, firm = facts
        person = f"{random.choice(_FIRST)} {family}"
        one, two = random.sample(_HABITS, 2)
        text = (
            f"{person} grew up in the town of {town} and learned the trade of a {random.choice(_TRADES)} there. "
            f"{family} {one}. For {random.randint(3, 30)} years {family} has worked for a firm called {firm}. "
            f"On free days {family} takes out a boat named {boat}, and {two}."
        )
        people.append(person)
        items.append(Item(f"{person}\n{text}", facts[kind]))
    # `facts` are in the order of _QUESTIONS.
    return Trial(_QUESTIONS[kind].format(people[0]), items[0], tuple(items[1:]))


def _write_documents(items: Sequence[Item], question: str) -> str:
    shown = "\n\n".join(f"Document {n}: {i.text}" for n, i in enumerate(items, 1))
    return f"{shown}\n\nQuestion: {question}"


def _pairs(random: Random, count: int) -> Trial:
    keys, values = ([_uuid(random) for _ in range(count)] for _ in range(2))
    items = [Item(f"{json.dumps(k)}: {json.dumps(v)}", v) for k, v in zip(keys, values, strict=True)]
    return Trial(f"Key: {json.dumps(keys[0])}", items[0], tuple(items[1:]))


def _write_pairs(items: Sequence[Item], question: str) -> str:
    pairs = ",\n ".join(i.text for i in items)
    return f"JSON data:\n{{{pairs}}}\n\n{question}"


def _uuid(random: Random) -> str:
    text = f"{random.getrandbits(128):032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _invented(random: Random, count: int) -> list[str]:
    """Different invented words of three syllables: none stands in another."""
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(random.choice("bdfgklmnprstvz") + random.choice("aeiou") for _ in range(3))] = None
    return list(found)


TASKS = (
    Task(
        "documents",
        "Answer the question from the documents; one of them holds the answer. Reply with the answer alone.",
        1,
        _documents,
        _write_documents,
    ),
    Task(
        "key-value",
        "Give the value that belongs to the key in the JSON data. Reply with the value alone.",
        PAIRS_PER_DOCUMENT,
        _pairs,
        _write_pairs,
    ),
)
