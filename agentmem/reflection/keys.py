"""`keys`: further keys under which messages are found, their text as it is (fact-augmented keys: LongMemEval,
arXiv 2410.10813, section 5.3; here of both sides of the conversation).

By rules a message that speaks of "last Friday" gets a key as a third person would tell it later: with the day, and who
speaks instead of "I" (such keys of all messages were measured to find less); and an assistant's reply the round: the
end of what it answers, with its own beginning. With a model, keys are facts that it reads in a window of messages, each
under the messages that it names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agentmem.dates import find_dates, spoken
from agentmem.keys import CHUNK_BYTES, MAX_KEYS
from agentmem.reflection.answers import list_of, read_object, text_problem
from agentmem.reflection.budget import Estimate
from agentmem.reflection.changes import SetKeys
from agentmem.reflection.material import DATA_RULE, Material, material, windows
from agentmem.reflection.strategy import Said, Steps, ask, propose
from agentmem.types import ChatMessage, Request

if TYPE_CHECKING:
    from agentmem.reflection.strategy import Form
    from agentmem.reflection.view import View
    from agentmem.types import Message

TOGETHER = 200
"""So many messages are committed together by rules."""
WINDOW = 16
"""At most so many messages stand in one question to the model, fewer where its window is small."""
ASKED = 32
"""So many questions are asked before their answers are committed."""
MAX_CHARS = 1000
TOKENS_A_MESSAGE = 340
"""Of at most `MAX_CHARS` characters, with who said it and when."""
ANSWER_TOKENS = 1200
FACTS = 24
MAX_FACT_WORDS = 40
QUESTION_CHARS = 300

INSTRUCTION = (
    f"You write down what is told in a conversation, as facts that stand for themselves. {DATA_RULE}"
    " Write each fact as one short sentence in the language of the messages, with names instead of pronouns and dates"
    " instead of words such as 'yesterday' (each line begins with the day on which it was said). Take facts from people"
    " and from assistants; leave out greetings and what nobody would look for. Name for each fact the messages that"
    ' tell it. Answer with JSON alone: {"facts": [{"messages": [1], "fact": "..."}]}; with no facts: {"facts": []}.'
)
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "facts": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "messages": {"type": "array", "items": {"type": "integer"}},
                    "fact": {"type": "string"},
                },
                "required": ["messages", "fact"],
            },
        }
    },
    "required": ["facts"],
}
# "I am" before "I": the longer form first.
_FIRST = re.compile(r"\b(?:I(?:['’](?:m|ve|ll|d)| am| have)?|[Mm]y(?:self)?|[Mm]ine|[Mm]e)\b")
_FORMS = {
    "i": "", "i'm": " is", "i am": " is", "i've": " has", "i have": " has", "i'll": " will", "i'd": " would",
    "my": "'s", "mine": "'s", "me": "", "myself": "",
}  # fmt: skip
_ON = re.compile(r"\b(?:on|in|since|from|until|till|by|before|after|of|during|around|for|the)\s+$", re.IGNORECASE)


class Keys:
    """The strategy; it has no options."""

    name = "keys"
    version = 1
    forms: tuple[Form, ...] = ("rules", "model")

    def estimate(self, view: View) -> Estimate:
        """The messages since the last run, and by a model the questions about them."""
        new = view.messages(view.cursor or 0)
        if view.form == "rules":
            return Estimate(records=len(new))
        asked = [_request(found) for _, found in _windows(view, new)]
        tokens = sum(view.counter.count_prompt(r.messages) for r in asked)
        return Estimate(len(new), len(asked), tokens, sum(r.max_tokens for r in asked))

    def run(self, view: View) -> Steps:
        """Keys for the messages since the last run."""
        new = view.messages(view.cursor or 0)
        yield from _by_model(view, new) if view.form == "model" else _by_rules(view, new)
        if view.last_message > (view.cursor or 0):
            yield from propose([], cursor=view.last_message)


def told(message: Message, previous: Message | None = None) -> list[str]:
    """The keys of a message by rules; `previous` is the one before it, if that is evidence. [] where they would say no
    more than it says itself."""
    if message.role == "assistant":
        if previous is None or previous.role != "user" or previous.session != message.session:
            return []
        return [within(f"{previous.said[-QUESTION_CHARS:].strip()}\n{message.said.strip()}")]
    text = dated(message)
    return [within(in_third_person(text, message.name))] if text != message.said else []


def dated(message: Message) -> str:
    """What was said, with days for words that only mean something on the day on which it was said."""
    text, out, end = message.said, [], 0
    for mention in find_dates(text, message.at):
        said = spoken(mention)
        before = text[end : mention.start]
        if said.lower() in mention.text.lower() or mention.text.lower() in said.lower():
            continue
        first = (
            "" if _ON.search(before) or mention.precision == "week" else "on " if mention.precision == "day" else "in "
        )
        out += [before, first, said]
        end = mention.end
    return "".join([*out, text[end:]])


def in_third_person(text: str, name: str | None) -> str:
    """A text with the speaker's name for "I" and "my"; as it is where the speaker has no name."""
    if not name:
        return text
    return _FIRST.sub(lambda m: name + _FORMS[m.group().lower().replace("’", "'")], text)


def within(text: str) -> str:
    """The beginning of a text that a key has room for."""
    return text.encode("utf-8", "replace")[:CHUNK_BYTES].decode("utf-8", "ignore").strip()


def _by_rules(view: View, new: Sequence[Message]) -> Steps:
    for start in range(0, len(new), TOGETHER):
        batch = new[start : start + TOGETHER]
        beside = {m.id: m for m in batch}
        if (earlier := view.message(f"m{batch[0].id - 1}")) is not None:
            beside[earlier.id] = earlier
        known = view.keys("recall", [m.id for m in batch])
        changes = []
        for message in batch:
            previous = beside.get(message.id - 1)
            rests = (message.ref, *([previous.ref] if previous is not None and message.role == "assistant" else []))
            change = _change(message.ref, known.get(message.id, ()), told(message, previous), rests, "told for itself")
            changes += [change] if change is not None else []
        yield from propose(changes, cursor=batch[-1].id)


def _by_model(view: View, new: Sequence[Message]) -> Steps:
    found = list(_windows(view, new))
    for start in range(0, len(found), ASKED):
        some = found[start : start + ASKED]
        answers = yield from ask([_request(shown) for _, shown in some])
        for (window, shown), said in zip(some, answers, strict=True):
            facts, rejected = read_facts(said, shown, [m.said for m in window])
            known = view.keys("recall", [m.id for m in window])
            changes = []
            for message in window:
                mine = [(fact, cited) for fact, cited in facts if message.ref in cited]
                rests = tuple(dict.fromkeys(ref for _, cited in mine for ref in cited))
                keys = [fact for fact, _ in mine]
                change = _change(message.ref, known.get(message.id, ()), keys, rests, "a fact that it tells")
                changes += [change] if change is not None else []
            yield from propose(changes, cursor=window[-1].id, rejected=rejected)


def read_facts(
    said: Said, shown: Material, texts: Sequence[str]
) -> tuple[list[tuple[str, tuple[str, ...]]], list[str]]:
    """(fact, refs of the messages that tell it) of an answer, and why other parts of it can't be used. `texts` are what
    the lines of `shown` say, in their order."""
    if said.problem:
        return [], [said.problem]
    value, problem = read_object(said.text)
    if value is None:
        return [], [problem]
    entries, problem = list_of(value, "facts", FACTS)
    rejected = [problem] if problem else []
    facts = []
    for entry in entries:
        numbers = entry.get("messages") if isinstance(entry, dict) else None
        if not isinstance(numbers, list) or not numbers or any(shown.ref(n) is None for n in numbers):
            rejected.append("a fact that names no message, or one that was not shown")
            continue
        fact = entry.get("fact")
        problem = text_problem(fact, [texts[n - 1] for n in numbers], MAX_FACT_WORDS)
        if problem:
            rejected.append(problem)
        else:
            facts.append((within(" ".join(fact.split())), shown.cited(numbers)))
    return facts, rejected


def _change(
    ref: str, before: tuple[str, ...], keys: Sequence[str], sources: tuple[str, ...], why: str
) -> SetKeys | None:
    """The change that adds keys to those that a message has; None where it adds none."""
    after = tuple(dict.fromkeys([*before, *(k for k in keys if k)]))[:MAX_KEYS]
    return SetKeys(ref, after, before, sources, why) if after != before else None


def _windows(view: View, new: Sequence[Message]) -> Iterator[tuple[list[Message], Material]]:
    room = view.window_tokens - 2 * view.counter.count(INSTRUCTION) - ANSWER_TOKENS
    size = max(1, min(WINDOW, room // TOKENS_A_MESSAGE))
    for window in windows(new, size):
        yield window, material(window, MAX_CHARS)


def _request(shown: Material) -> Request:
    return Request(
        (ChatMessage("system", INSTRUCTION), ChatMessage("user", shown.text)), max_tokens=ANSWER_TOKENS, schema=SCHEMA
    )
