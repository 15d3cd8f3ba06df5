"""Texts that tell the assistant what to do, by conservative rules: they are no facts about anybody, whoever said them.

A false alarm costs one line of a profile; a miss puts somebody's order into every prompt. English; what another
language orders is kept out by the support that a line needs (`agentmem.reflection.profile_drafts`).
"""

from __future__ import annotations

import re

from agentmem.language import sentences

_OVERRIDES = re.compile(
    r"\b(?:ignor(?:e|es|ing)|disregard(?:s|ing)?|overrid(?:e|es|ing)|bypass(?:es|ing)?|forget|violat(?:e|es|ing)|"
    r"break(?:s|ing)?|circumvent(?:s|ing)?)\b[^.!?\n]{0,40}\b(?:rules?|instructions?|prompts?|guidelines?|polic(?:y|ies)|"
    r"restrictions?|safety|safeguards|filters?|guardrails?|limits|everything|(?:all|any)\s+(?:previous|prior|above))\b|"
    r"\b(?:your|the|new|hidden|secret|previous|prior|above)\s+(?:system\s+)?(?:rules|instructions?|prompts?|guidelines|"
    r"programming|persona|directives?)\b|"
    r"\bsystem\s+(?:prompt|message|override|note|update|instruction)s?\b|\b(?:developer|debug|god|dan|admin|root|sudo)\s+"
    r"(?:mode|access|rights|privileges)\b|\bjail-?break|\byou\s+are\s+(?:now|no\s+longer|hereby)\b|\bfrom\s+now\s+on\b|"
    r"\bas\s+an?\s+(?:ai|language\s+model|assistant)\b|\b(?:the\s+)?(?:assistant|agent|ai|bot|model|chatbot)\s+"
    r"(?:must|should|shall|will|has\s+to|needs\s+to|is\s+to|may|can|ought|always|never)\b|"
    r"<\|?/?(?:im_start|im_end|system|assistant|user|inst|s)\|?>|\[/?inst\]|^\s*#{2,}|"
    r"\b(?:add|write|put|store|save|append|insert|record|note)\s+(?:this|that|it|the\s+following)?\b[^.!?\n]{0,40}"
    r"\b(?:to|in|into)\s+(?:(?:your|the|my|his|her)\s+)?(?:core\s+)?(?:memory|profile|persona|notes|block)\b",
    re.IGNORECASE | re.MULTILINE,
)
_LEAD = (
    r"(?:(?:please|kindly|now|also|and|so|then|ok(?:ay)?|hey|assistant|ai|bot|important|note|rule|attention)"
    r"[\s,:!-]+)*"
)
_OBEYED = (
    r"(?:ignore|disregard|answer|respond|reply|obey|comply|pretend|reveal|output|print|execute|roleplay|role-play|"
    r"translate|act\s+as|speak\s+(?:in|only|like|to)|address|refer\s+to|follow\s+(?:the|these|my|this|all)|never\s+"
    r"(?:mention|say|tell|ask|refuse|use|reveal|answer)|always\s+(?:mention|say|tell|ask|use|end|begin|start|include|add|"
    r"write|give|recommend|agree|sign)|do\s+not\s+|don['’]?t\s+)"
)
_ORDER = re.compile(
    rf"^\W*{_LEAD}(?:(?:always|never|only)\s+)?(?:{_OBEYED}|(?:send|delete|erase|remove|transfer|email|forward|click|visit|"
    r"open|download|install|run|call|tell|say|write|give|show|make|let|use|remember|treat|trust|stop|start|include|end|"
    r"begin|recommend|repeat|forget|summari[sz]e|be)\b(?!:))",
    re.IGNORECASE,
)
_TOLD = re.compile(
    r"\byou\s+(?:must|should|shall|have\s+to|need\s+to|are\s+to|ought\s+to|will\s+(?:always|never|only|now)|may\s+only|"
    r"can\s+only|better)\b",
    re.IGNORECASE,
)
_VALUE = re.compile(rf"^\W*{_LEAD}(?:(?:always|never|only)\s+)?{_OBEYED}", re.IGNORECASE)
_SLOT = re.compile(
    r"^\W*(?:system|assistant|user|tool|developer|instructions?|rules?|orders?|commands?|directives?|prompt|note\s+to\s+"
    r"(?:the\s+)?(?:self|assistant|ai|model)|important|attention)\s*[:=]",
    re.IGNORECASE,
)
_REMEMBERED = re.compile(
    r"^\W*(?:(?:please|and|also|so|now|kindly)[\s,]+)*(?:remember|don['’]?t\s+forget|do\s+not\s+forget|note|keep\s+in\s+"
    r"mind|bear\s+in\s+mind|call\s+me|let\s+me\s+tell\s+you)\b[\s:,]*(?:that\b)?\s*",
    re.IGNORECASE,
)


def overrides(text: str) -> bool:
    """Whether a text is about the assistant's own rules, or about what shall stand in its memory."""
    return bool(_OVERRIDES.search(text))


def instructs(text: str) -> bool:
    """Whether a sentence, or a line `Slot: value`, tells the assistant what to do. What asks it to remember a fact
    does not."""
    rest = _REMEMBERED.sub("", text, count=1)
    value = text.partition(":")[2]
    return (
        overrides(text)
        or bool(_SLOT.match(text))
        or bool(_ORDER.match(rest))
        or bool(_TOLD.search(text))
        or bool(value and _VALUE.match(value))
    )


def without_orders(text: str, *, wishes: bool = False) -> str:
    """A text with each sentence that instructs made blank; all of it where one `overrides`: what else
    such a text says is not to be trusted. With `wishes` what a speaker wants of the assistant ("please answer in
    French") stays."""
    if overrides(text):
        return ""
    out = text
    for start, end in sentences(text):
        said = text[start:end]
        if not wishes and instructs(said):
            # A full stop that ends a sentence before any letter; spaces alone would make the rest a block of code.
            out = out[:start] + "。" + " " * (end - start - 1) + out[end:]
    return out
