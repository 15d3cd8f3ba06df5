"""Core memory: labelled blocks that always stand in the prompt, edited by people and by tools.

An edit is stored at once, with its history. It shows at once in the queue (a note, or the tool's result) and stands in
the block's text of the prompt from the next epoch on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING

from agentmem.errors import BlockFullError, BlockTextError, InvalidInputError, ReadOnlyBlockError, UnknownNameError
from agentmem.types import Block

if TYPE_CHECKING:
    from agentmem.protocols import TokenCounter

OnEdit = Callable[[Block, str, str, str], None]
"""(new block, op, text before, actor): stores the edit."""
DEFAULT_BLOCKS = (
    ("persona", "Who the assistant is."),
    ("human", "What is known about the person it talks to, a line a fact."),
)


def appended(block: Block, content: str, counter: TokenCounter) -> Block:
    """The block with a line more. Raises BlockError; pure."""
    line = content.strip()
    if not line:
        raise InvalidInputError("content", content, "is empty")
    return _changed(block, f"{block.value}\n{line}" if block.value else line, counter)


def replaced(block: Block, old: str, new: str, counter: TokenCounter) -> Block:
    """The block with `old` (which must stand in it exactly once) replaced by `new`; an empty `new` takes it out."""
    if not old:
        raise InvalidInputError("old_content", old, "is empty", hint="give the text to be replaced")
    count = block.value.count(old)
    if count != 1:
        found = "is not there" if count == 0 else f"is there {count} times"
        raise BlockTextError(block.label, f"the text {old[:80]!r} {found}", hint="give text that stands there once")
    value = block.value.replace(old, new.strip())
    return _changed(block, "\n".join(line for line in value.splitlines() if line.strip()), counter)


def rewritten(block: Block, value: str, counter: TokenCounter) -> Block:
    """The block with another text, stripped. Raises BlockError; pure."""
    return _changed(block, value.strip(), counter)


def _changed(block: Block, value: str, counter: TokenCounter) -> Block:
    if block.read_only:
        raise ReadOnlyBlockError(block.label)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as e:
        raise InvalidInputError(
            "content", value[e.start : e.start + 5], "has a lone surrogate, which is no text"
        ) from e
    num_tokens = counter.count(value)
    if num_tokens > block.max_tokens:
        raise BlockFullError(block.label, num_tokens, block.max_tokens)
    return replace(block, value=value, version=block.version + 1)


class BlockHandle:
    """One block, read from the store at each use."""

    def __init__(self, core: CoreMemory, label: str) -> None:
        self._core = core
        self.label = label

    @property
    def block(self) -> Block:
        """The block as it is now."""
        return self._core.block(self.label)

    @property
    def value(self) -> str:
        """Its text."""
        return self.block.value

    @property
    def max_tokens(self) -> int:
        """Its limit, in the counter's tokens."""
        return self.block.max_tokens

    @max_tokens.setter
    def max_tokens(self, max_tokens: int) -> None:
        if max_tokens < 1:
            raise InvalidInputError("max_tokens", max_tokens, "must be at least 1")
        with self._core.transaction():
            block = self.block
            num_tokens = self._core.counter.count(block.value)
            if num_tokens > max_tokens:
                raise BlockFullError(self.label, num_tokens, max_tokens)
            self._core.store(replace(block, max_tokens=max_tokens, version=block.version + 1), "limit", block.value)

    @property
    def read_only(self) -> bool:
        """Whether edits are refused."""
        return self.block.read_only

    @read_only.setter
    def read_only(self, read_only: bool) -> None:
        with self._core.transaction():
            block = self.block
            new = replace(block, read_only=bool(read_only), version=block.version + 1)
            self._core.store(new, "read_only", block.value)

    def append(self, content: str) -> None:
        """Add a line. Raises BlockFullError, ReadOnlyBlockError, InvalidInputError."""
        with self._core.transaction():  # read and written as one: two writers lose neither's line
            block = self.block
            self._core.store(appended(block, content, self._core.counter), "append", block.value)

    def replace(self, old: str, new: str) -> None:
        """Replace text that stands in the block exactly once. Raises BlockTextError and the errors of `append`."""
        with self._core.transaction():
            block = self.block
            self._core.store(replaced(block, old, new, self._core.counter), "replace", block.value)


class CoreMemory:
    """The blocks of an agent, by label: `memory.core["human"]`."""

    def __init__(
        self,
        read: Callable[[], tuple[Block, ...]],
        on_edit: OnEdit,
        counter: Callable[[], TokenCounter],
        new_max: int,
        transaction: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.transaction = transaction
        self._read = read
        self._on_edit = on_edit
        self._counter = counter
        self._new_max = new_max

    @property
    def counter(self) -> TokenCounter:
        """Counts the limits."""
        return self._counter()

    def __getitem__(self, label: str) -> BlockHandle:
        self.block(label)
        return BlockHandle(self, label)

    def __iter__(self) -> Iterator[str]:
        return iter([b.label for b in self._read()])

    def __len__(self) -> int:
        return len(self._read())

    def __contains__(self, label: object) -> bool:
        return any(b.label == label for b in self._read())

    def block(self, label: str) -> Block:
        """A block by label. Raises UnknownNameError listing the labels."""
        blocks = self._read()
        for b in blocks:
            if b.label == label:
                return b
        raise UnknownNameError("core memory block", label, [b.label for b in blocks])

    def add(self, label: str, value: str = "", *, max_tokens: int | None = None, description: str = "") -> BlockHandle:
        """Make a block. Raises InvalidInputError for a label that exists or is no word."""
        if not label.isidentifier() or label in self:
            raise InvalidInputError("label", label, "exists already" if label in self else "is no plain word")
        block = Block(
            label, "", self._new_max if max_tokens is None else max_tokens, version=0, description=description
        )
        self.store(_changed(block, value, self.counter), "create", "")
        return BlockHandle(self, label)

    def store(self, block: Block, op: str, before: str, actor: str = "user") -> None:
        """Keep an edited block."""
        self._on_edit(block, op, before, actor)
