"""Which tokens of a question's answer its evidence turns hold, and whether a page-in still shows them.

Tokens are LoCoMo's (`benchmarks.locomo_pages.f1_tokens`: lower case, without punctuation and articles, stems); what
counts is what the answer says, so function words are left out, and once left in (`every`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agentmem.language import STOP_WORDS
from agentmem.types import Page
from benchmarks.locomo_pages import f1_tokens


@dataclass(frozen=True, slots=True)
class Gold:
    """Of each evidence turn, by key, the answer's tokens that stand in it, with and without function words.

    `complete`: the turns together hold all that the answer says; `keys` are all evidence turns, those without a token
    of it too.
    """

    keys: tuple[str, ...]
    told: Mapping[str, frozenset[str]]
    every: Mapping[str, frozenset[str]]
    complete: bool

    @classmethod
    def of(cls, answer: str, turns: Mapping[str, str]) -> Gold:
        """For an answer and the texts of its evidence turns by key."""
        wanted = frozenset(f1_tokens(answer))
        there = {key: wanted & frozenset(f1_tokens(text)) for key, text in turns.items()}
        told = {key: frozenset(t for t in tokens if t not in FUNCTION_WORDS) for key, tokens in there.items()}
        says = {t for t in wanted if t not in FUNCTION_WORDS}
        return cls(tuple(turns), told, there, says == _union(told))

    def __bool__(self) -> bool:
        return bool(_union(self.told))

    def kept(self, page: Page) -> dict[str, float]:
        """1.0 or 0.0 for each way to look at a page: in its text at all, and in what is shown of each evidence turn;
        the evidence turns that stand whole."""
        text = frozenset(f1_tokens(page.text))
        shown = {i.hit.key: frozenset(f1_tokens(i.text)) for i in page.items}
        return {
            "page": float(_union(self.told) <= text),
            "turns": float(all(t <= shown.get(k, frozenset()) for k, t in self.told.items())),
            "page+": float(_union(self.every) <= text),
            "turns+": float(all(t <= shown.get(k, frozenset()) for k, t in self.every.items())),
            "whole": float(set(self.keys) <= set(page.keys)),
        }


FUNCTION_WORDS = STOP_WORDS | {t for w in STOP_WORDS - {"won"} for t in f1_tokens(w)}
"""As they stand and as LoCoMo's tokens (of "won", what is left of "won't", that would be "win")."""


def _union(tokens: Mapping[str, frozenset[str]]) -> frozenset[str]:
    return frozenset().union(*tokens.values())


def said_in(answer: str, text: str) -> bool:
    """Whether a text says the answer as it is: its tokens in a row."""
    wanted, there = f1_tokens(answer), f1_tokens(text)
    size = len(wanted)
    return bool(wanted) and any(there[n : n + size] == wanted for n in range(len(there) - size + 1))
