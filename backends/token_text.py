"""The text that a vocabulary's token strings stand for, and where in it each token starts.

A server lists a prompt's tokens as its tokenizer stores them. Byte-level vocabularies (GPT-2's way, of Llama 3 and
Qwen) write each byte as one printable sign; SentencePiece's (Llama 2, Mistral) write a space as U+2581 and a byte
that is no character as `<0x0A>`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "\u2581"


def _byte_signs() -> dict[str, int]:
    """GPT-2's table (`bytes_to_unicode` of its encoder.py): printable bytes stand for themselves, the others for the
    signs from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    signs = {chr(b): b for b in plain}
    signs.update({chr(0x100 + n): b for n, b in enumerate(b for b in range(256) if b not in plain)})
    return signs


_SIGNS = _byte_signs()


def token_text(strings: Sequence[str]) -> tuple[str, tuple[int, ...]]:
    """The text of a row of tokens and the offset of each one's first character.

    A character of several tokens: they share its offset. Bytes that are no UTF-8 become U+FFFD.
    """
    pieces = _pieces(strings)
    text: list[str] = []
    starts: list[int] = []
    length = 0  # characters that are whole before `rest`
    rest = b""
    for piece in pieces:
        starts.append(length)
        rest += piece
        whole, rest = _split(rest)
        text.append(whole)
        length += len(whole)
    text.append(rest.decode("utf-8", "replace"))
    return "".join(text), tuple(starts)


def _pieces(strings: Sequence[str]) -> list[bytes]:
    # A line end or a space is in every prompt: a byte-level vocabulary can't write either as itself.
    if any("\u0100" <= c <= "\u0143" for s in strings for c in s) and not any(_SPACE in s for s in strings):
        return [
            bytes(_SIGNS[c] for c in s) if all(c in _SIGNS for c in s) else s.encode("utf-8", "replace")
            for s in strings
        ]
    out: list[bytes] = []
    for s in strings:
        found = _BYTE.fullmatch(s)
        out.append(bytes([int(found[1], 16)]) if found else s.replace(_SPACE, " ").encode("utf-8", "replace"))
    return out


def _split(data: bytes) -> tuple[str, bytes]:
    """The characters at the start of `data`, and the bytes at its end that may yet become one."""
    for n in range(1, min(4, len(data)) + 1):
        lead = data[-n]
        if lead & 0xC0 == 0x80:
            continue
        need = 4 if lead >= 0xF0 else 3 if lead >= 0xE0 else 2 if lead >= 0xC0 else 1
        if need > n:
            return data[:-n].decode("utf-8", "replace"), data[-n:]
        break
    return data.decode("utf-8", "replace"), b""
