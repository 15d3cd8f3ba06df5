"""`summaries`: a tree of summaries over the history, as an index: the messages under the summaries that fit a question
best are looked at one by one (as in HCAM, arXiv 2105.14039; the tree is MemWalker's, arXiv 2310.05029). A flush makes
the recursive summary from it (`agentmem.summary_nodes`).

It is built level by level, in batches. New messages cost their own leaves and the right spine; what these replace is
closed. By rules a summary is extractive: sentences that tell most of what its window tells, as they were said, under
their day. With a model it is written, from the messages for a leaf, from the summaries below it else.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agentmem.language import content_words, is_question, sentences, words
from agentmem.reflection.answers import read_object, text_problem
from agentmem.reflection.budget import Estimate
from agentmem.reflection.changes import AddPassage, ClosePassage
from agentmem.reflection.material import DATA_RULE, material
from agentmem.reflection.strategy import Said, Step, Steps, ask, propose
from agentmem.reflection.summary_tree import CHILDREN, leaves, level, tags
from agentmem.summary_nodes import KIND, Node, node_of
from agentmem.times import day_words, format_time
from agentmem.types import ChatMessage, Message, Passage, Request

if TYPE_CHECKING:
    from agentmem.reflection.strategy import Form
    from agentmem.reflection.view import View

TOGETHER = 50
"""So many summaries are committed together."""
MAX_WORDS = 120
"""Of a summary."""
MAX_SENTENCE_WORDS = 40
MAX_CHARS, LEAST_CHARS, CHARS_A_TOKEN = 2000, 80, 3
ANSWER_TOKENS = 400
MESSAGE_TOKENS = 8
"""What stands around a message in a prompt."""

INSTRUCTION = (
    "You summarise a part of a long conversation, so that it can be found again. "
    f"{DATA_RULE} Say in at most 100 words, in the language of the records, what is told: who did, said, wants or "
    "decided what, when and where, with names and dates. Add nothing that the records do not say. Answer with JSON "
    'alone: {"summary": "..."}.'
)
SCHEMA: Mapping[str, Any] = {
    "type": "object", "properties": {"summary": {"type": "string"}}, "required": ["summary"],
}  # fmt: skip


class Summaries:
    """The strategy; it has no options."""

    name = "summaries"
    version = 1
    forms: tuple[Form, ...] = ("rules", "model")

    def estimate(self, view: View) -> Estimate:
        """The messages since the last run, and by a model a question for each leaf that is new, and for as many nodes
        above them as there can be."""
        if not _has_new(view):
            return Estimate()
        new = len(view.messages(view.cursor or 0))
        if view.form == "rules":
            return Estimate(records=new)
        shape = leaves(view.messages(), _nodes(view), _cost(view))
        windows = [p for p in shape.places if not isinstance(p, Node)]
        asked = [_request(view, w) for w in windows]
        at_level, below = len(windows), len(shape.places)
        inner = 0
        while below > 1:
            # A run of new nodes may begin and end within groups.
            below = math.ceil(below / CHILDREN)
            at_level = min(below, at_level // CHILDREN + 2)
            inner += at_level
        widest = view.counter.count(INSTRUCTION) + CHILDREN * (ANSWER_TOKENS + 4 * MESSAGE_TOKENS)
        tokens = sum(view.counter.count_prompt(r.messages) for r in asked) + inner * widest
        return Estimate(new, len(asked) + inner, tokens, (len(asked) + inner) * ANSWER_TOKENS)

    def run(self, view: View) -> Steps:
        """The tree over all messages, as far as it is not there."""
        if _has_new(view):
            yield from _Tree(view).build()
            yield from propose([], cursor=view.last_message)


@dataclass
class _Tree:
    """The tree while it is built: `records` are what its nodes are made of, by ref."""

    view: View
    nodes: list[Node] = field(default_factory=list)
    records: dict[str, Message | Passage] = field(default_factory=dict)

    def build(self) -> Steps:
        for passage in self.view.passages(kinds=(KIND,), closed=True):
            if (node := node_of(passage)) is not None:
                self.nodes.append(node)
                self.records[node.ref] = passage
        messages = self.view.messages()
        self.records |= {m.ref: m for m in messages}
        shape = leaves(messages, self.nodes, _cost(self.view))
        places = [p if isinstance(p, Node) else tuple(m.ref for m in p) for p in shape.places]
        below = yield from self._made(places, shape.dissolved, 0)
        number = 1
        top = max((n.level for n in self.nodes), default=0)
        while len(below) > 1 or number <= top:
            above = level(below, self.nodes, number)
            places = [p if isinstance(p, Node) else tuple(n.ref for n in p) for p in above.places]
            below = yield from self._made(places, above.dissolved, number, below)
            number += 1

    def _made(
        self,
        places: Sequence[Node | tuple[str, ...]],
        dissolved: Sequence[Node],
        number: int,
        below: Sequence[Node] = (),
    ) -> Generator[Step, Any, list[Node]]:
        """The nodes of a level, in order, those that are new proposed; what was not taken is left out."""
        spans = {n.ref: (n.first, n.last) for n in below}
        groups = [p for p in places if not isinstance(p, Node)]
        texts, rejected = yield from self._texts(groups)
        todo = [(refs, text) for refs, text in zip(groups, texts, strict=True) if text]
        made: dict[tuple[str, ...], Node] = {}
        old = list(dissolved)
        for start in range(0, max(len(todo), 1), TOGETHER):
            some = todo[start : start + TOGETHER]
            new = []
            for refs, text in some:
                ends = [spans.get(refs[0], (_number(refs[0]), 0))[0], spans.get(refs[-1], (0, _number(refs[-1])))[1]]
                new.append((self._added(refs, text, number, ends[0], ends[1]), ends, refs))
            closes = []
            for node in list(old):
                n = next((n for n, (_, (first, last), _) in enumerate(new) if first <= node.first <= last), None)
                # What nothing new stands for any more is closed at the end, unless its place failed to be filled.
                gone = n is None and start + TOGETHER >= len(todo) and len(todo) == len(groups)
                if n is not None or gone:
                    at = format_time(self.view.now) if n is None else str(new[n][0].valid_from)
                    closes.append(
                        ClosePassage(node.ref, at, None if n is None else f"+{n}", why="its part was summarised anew")
                    )
                    old.remove(node)
            if not new and not closes and not rejected:
                break
            outcomes = yield from propose([*(a for a, _, _ in new), *closes], rejected=rejected)
            rejected = []
            for (change, (first, last), refs), outcome in zip(new, outcomes, strict=False):
                ref = outcome.made or (f"new-{number}-{first}" if outcome.fate == "planned" else None)
                if ref is not None:
                    made[refs] = Node(ref, number, first, last, refs)
                    self.records[ref] = _passage(ref, change, self.view)
        found = [p if isinstance(p, Node) else made.get(p) for p in places]
        return [n for n in found if n is not None]

    def _texts(self, groups: Sequence[tuple[str, ...]]) -> Generator[Step, Any, tuple[list[str], list[str]]]:
        """A text a group ("" where there is none), and why answers were not taken."""
        members = [[self.records[r] for r in refs] for refs in groups]
        if self.view.form == "rules":
            return [extract(m) for m in members], []
        answers = yield from ask([_request(self.view, m) for m in members])
        read = [read_summary(said, m) for said, m in zip(answers, members, strict=True)]
        return [text for text, _ in read], [problem for _, problem in read if problem]

    def _added(self, refs: tuple[str, ...], text: str, number: int, first: int, last: int) -> AddPassage:
        newest = max((_at(self.records[r]) for r in refs), key=lambda at: at.timestamp())
        form = self.view.form
        why = f"{'sentences' if form == 'rules' else 'a summary'} of m{first} to m{last}"
        return AddPassage(text, KIND, refs, tags(number, first, last, form), format_time(newest), why=why)


def extract(records: Sequence[Message | Passage], max_words: int = MAX_WORDS) -> str:
    """The sentences that tell most of what records tell, in their order, each on a line with who said it and when; of
    summaries, their lines. At most `max_words` in all, but one sentence at least.

    Greedy: each next sentence has the most content that was not told yet, by how often its stems come, for its length;
    names and numbers count, questions count little.
    """
    units = [(who, text) for record in records for who, text in _units(record)]
    stems = [set(content_words(text)) for _, text in units]
    often = Counter(s for found in stems for s in found)
    weight = {s: math.log2(1 + n) for s, n in often.items()}
    sizes = [len(words(text)) for _, text in units]
    extra = [
        1.5 * sum(w[:1].isupper() or w[:1].isdigit() for w in words(text)[1:]) * min(1.0, len(found) / 4)
        for (_, text), found in zip(units, stems, strict=True)
    ]
    asks = [0.3 if is_question(text) else 1.0 for _, text in units]
    told: set[str] = set()
    chosen: list[int] = []
    used = 0
    left = set(range(len(units)))
    while left:
        gains = {
            n: asks[n] * (sum(weight[s] for s in stems[n] - told) + extra[n]) / (sizes[n] + 6)
            for n in left
            if not chosen or used + sizes[n] <= max_words
        }
        best = max(gains, key=lambda n: (gains[n], -n), default=None)
        if best is None or (chosen and gains[best] <= 0):
            break
        chosen.append(best)
        told |= stems[best]
        used += sizes[best]
        left.discard(best)
    return "\n".join(f"{units[n][0]}{units[n][1]}" for n in sorted(chosen))


def read_summary(said: Said, records: Sequence[Message | Passage]) -> tuple[str, str]:
    """The summary of an answer, and "" or why there is none."""
    if said.problem:
        return "", said.problem
    value, problem = read_object(said.text)
    if value is None:
        return "", problem
    text = value.get("summary")
    problem = text_problem(text, [_text(r) for r in records], MAX_WORDS)
    return ("", problem) if problem else (" ".join(str(text).split()), "")


def _units(record: Message | Passage) -> Iterator[tuple[str, str]]:
    if isinstance(record, Passage):
        yield from (("", line) for line in record.text.splitlines() if line.strip())
        return
    who = f"{record.name or record.role} ({day_words(record.at)}): "
    text = record.said[:MAX_CHARS]
    for start, end in sentences(text):
        sentence = " ".join(text[start:end].split())
        pieces = sentence.split(" ")
        yield who, " ".join(pieces[:MAX_SENTENCE_WORDS]) + ("..." if len(pieces) > MAX_SENTENCE_WORDS else "")


def _request(view: View, records: Sequence[Message | Passage]) -> Request:
    room = view.window_tokens - 2 * view.counter.count(INSTRUCTION) - ANSWER_TOKENS
    # A small window shows less of each.
    shown = material(records, max(LEAST_CHARS, min(MAX_CHARS, CHARS_A_TOKEN * room // len(records))))
    return Request(
        (ChatMessage("system", INSTRUCTION), ChatMessage("user", shown.text)), max_tokens=ANSWER_TOKENS, schema=SCHEMA
    )


def _has_new(view: View) -> bool:
    return view.last_message > (view.cursor or 0)


def _nodes(view: View) -> list[Node]:
    return [n for p in view.passages(kinds=(KIND,), closed=True) if (n := node_of(p)) is not None]


def _cost(view: View) -> Callable[[Message], int]:
    return lambda m: view.counter.count(m.said[:MAX_CHARS]) + MESSAGE_TOKENS


def _number(ref: str) -> int:
    return int(ref[1:]) if ref[:1] == "m" else 0


def _at(record: Message | Passage) -> Any:
    return record.at if isinstance(record, Message) else record.valid_from


def _text(record: Message | Passage) -> str:
    return record.said if isinstance(record, Message) else record.text


def _passage(ref: str, change: AddPassage, view: View) -> Passage:
    from datetime import datetime

    begins = datetime.fromisoformat(str(change.valid_from))
    return Passage(0, change.text, view.now, begins, kind=KIND, tags=change.tags, sources=change.sources)
