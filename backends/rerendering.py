"""Why a generated message stands in later prompts as other tokens than those that the model wrote."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from agentmem.backends.chat_rendering import JOINER
from agentmem.encoding import common_length


def difference(
    opened: Sequence[int],
    generated: Sequence[int],
    later: Sequence[int],
    decode: Callable[[Sequence[int]], str],
    calls: Sequence[str] = (),
) -> str:
    """The cause in words, "" for none; no text of the message is in it.

    `opened` is the prompt with the reply's opening, `generated` what followed it (without the token that ended it),
    `later` a later prompt. `calls` are the arguments of the message's tool calls as the model wrote them.
    """
    before = common_length(opened, later)
    if before < len(opened):
        missing = decode(opened[before:])
        of_thinking = "<think>" in missing and "<think>" not in decode(later[before : before + len(opened)])
        what = "thinking is opened in the reply and left out of later prompts" if of_thinking else (
            "the reply's opening differs from how later prompts open the message"
        )  # fmt: skip
        return f"{what}, {len(opened) - before} tokens before the reply"
    rest = later[len(opened) :]
    same = common_length(generated, rest)
    if same == len(generated):
        return ""
    where = f"from its token {same} on"
    return f"{_cause(decode(generated), decode(rest), calls)}, {where}"


def _cause(wrote: str, stands: str, calls: Sequence[str]) -> str:
    if stands.startswith(wrote):
        return "the same text is tokenised otherwise than the model wrote it"
    if JOINER in stands and stands.replace(JOINER, "").startswith(wrote):
        return "control tokens that the text spells out are broken up"
    thinking = wrote.rpartition("</think>")
    if thinking[1] and not stands.startswith(wrote[: len(thinking[0])]):
        return "thinking is left out of later prompts"
    if stands.lstrip().startswith(wrote.strip()):
        return "white space at the reply's ends is left out of later prompts"
    for raw in calls:
        if (way := _reserialised(raw)) and raw in wrote and raw not in stands:
            return f"the template writes the tool call's JSON otherwise than the model did ({way})"
    if calls:
        return "the template writes the tool call otherwise than the model did"
    if "".join(stands.split()).startswith("".join(wrote.split())):
        return "white space differs"
    return "the message differs"


def _reserialised(raw: str) -> str:
    """What of a call's JSON changes when it is read and written again."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return "it is no JSON"
    if not isinstance(value, dict):
        return "it is no object"
    written = json.dumps(value, ensure_ascii=False)
    if written == raw:
        return ""
    if "\\u" in raw and "\\u" not in written:
        return "escapes"
    if "".join(written.split()) == "".join(raw.split()):
        return "spaces"
    return "the same values written otherwise"
