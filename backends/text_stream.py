"""From a growing row of tokens to text, piece by piece, never with half a character."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_HALF = "\ufffd"


class TextStream:
    """The further text of each further token; the pieces joined, `end` included, are the text of all.

    A token is decoded with those before it since the last piece, as the text of a token may depend on the one before
    (a leading space, bytes of one character). What ends in half a character waits for the rest of it; at the end the
    half is U+FFFD.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._from = 0  # ids[_from:_told] is what the next ones are decoded with; its text has been given out
        self._told = 0

    def feed(self, token: int) -> str:
        """The text that can be said now that `token` is there; often ""."""
        self._ids.append(token)
        return self._new(halves=False)

    def end(self) -> str:
        """What was held back."""
        return self._new(halves=True)

    def _new(self, *, halves: bool) -> str:
        text = self._decode(self._ids[self._from :])
        if not halves and text.endswith(_HALF):
            return ""
        given = self._decode(self._ids[self._from : self._told])
        if len(text) <= len(given):
            return ""
        self._from, self._told = self._told, len(self._ids)
        return text[len(given) :]
