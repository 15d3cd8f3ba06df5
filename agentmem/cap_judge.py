"""A language model as a judge of answers, asked for yes or no, and how often it takes a wrong answer for right.

Judges are lenient: a public audit of LoCoMo found one accepting well over half of vague wrong answers. So the judge is
shown known-wrong answers too (another question's gold answer, and a vague one), and its false-accept rate stands beside
every number of its making.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from agentmem.cap_scores import token_f1
from agentmem.parsing import strip_thinking
from agentmem.types import ChatMessage, Request

if TYPE_CHECKING:
    from agentmem.cap_data import Question
    from agentmem.protocols import Backend

INSTRUCTION = """\
You mark answers. You are given a question, the correct answer, and a given answer. Reply with one word: yes if the \
given answer says the same as the correct answer, no if it says something else, says less than what was asked for, is \
vague, or declines. The given answer may be longer, or in other words; a day or number may be written otherwise."""
VAGUE = "They talked about that at some point; it was something that mattered to them."
REPLY_TOKENS = 512
_VERDICT = re.compile(r"\b(yes|no)\b", re.IGNORECASE)


def prompt(question: str, answers: Sequence[str], said: str) -> tuple[ChatMessage, ...]:
    """What the judge is asked."""
    gold = " (or: ".join(answers) + ")" * (len(answers) - 1)
    asked = f"Question: {question}\nCorrect answer: {gold}\nGiven answer: {said}\nSame? yes or no:"
    return (ChatMessage("system", INSTRUCTION), ChatMessage("user", asked))


def verdict(text: str) -> bool | None:
    """Yes or no, as a judge's reply begins; None where it says neither."""
    found = _VERDICT.search(strip_thinking(text))
    return None if found is None else found.group(1).lower() == "yes"


class Judge:
    """Asks a backend, at temperature 0. An empty answer is not right, and not worth asking about."""

    def __init__(self, backend: Backend, seed: int) -> None:
        self.backend = backend
        self._seed = seed

    def accepts(self, question: Question, said: str) -> bool | None:
        """Whether an answer is accepted; None where the judge says neither. Raises BackendError."""
        if not said.strip():
            return False
        messages = prompt(question.query, question.answers, said)
        request = Request(messages, max_tokens=REPLY_TOKENS, temperature=0.0, seed=self._seed)
        return verdict(self.backend.generate([request])[0].text)


def known_wrong(question: Question, others: Sequence[Question]) -> tuple[str, ...]:
    """Answers to a question that are wrong for sure: the gold answer of the next question of its category that shares
    no word with any of its own, and a vague one. `others` are all questions, in order, this one among them."""
    at = next((n for n, q in enumerate(others) if q is question), -1)
    for other in (*others[at + 1 :], *others[: max(at, 0)]):
        if other.category == question.category and not other.unanswerable:
            gold = other.answers[0]
            if not any(token_f1(gold, a) for a in question.answers):
                return gold, VAGUE
    return (VAGUE,)
