"""What the features of the reader are worth. Written by `benchmarks/fit_reading.py`; don't edit by hand."""

from __future__ import annotations

SENTENCE: dict[str, float] = {
    "answers a question": 1.99, "asked days": 2.02, "asks": -1.4, "bracketed": -0.45, "cover": 3.61,
    "duration type": 0.52, "first person": 0.91, "focus": 0.46, "item cover": 0.68, "item dated": 1.1, "new": 1.6,
    "no content": -0.32, "polite": -1.0, "previous cover": 1.25, "score": 2.84, "second person": -0.42,
    "speaker": 1.39, "top": 0.56, "type": 2.88, "when type": 1.12, "who type": 0.61, "why type": 0.37,
}
PHRASE: dict[str, float] = {
    "after verb 0": 0.44, "after verb 1": 1.48, "after verb 2": 0.38, "after verb far": -0.37, "all capital": 1.47,
    "all repeats": -1.58, "duration first num": 0.94, "duration first word": -0.37, "duration has number": 0.94,
    "duration has unit": 1.18, "duration length 2": 0.4, "duration length 7-9": -0.32, "first aux": -0.44,
    "first cap": 2.02, "first det": -0.77, "first ing": 0.33, "first num": 0.2, "first prep": -0.76,
    "first word": -0.56, "has auxiliary": -1.2, "has focus": 1.28, "has pronoun": -2.13, "how has capital": -0.36,
    "how has unit": -0.35, "how left aux": 0.87, "how left det": -0.41, "how left pron": 0.53,
    "how length 10-12": 1.39, "how length 2": -0.49, "how length 5-6": -0.34, "last cap": 1.43, "last num": 0.53,
    "last prep": -0.41, "last pron": -0.39, "last verb": -0.5, "last word": -0.33, "left aux": 0.37,
    "left cap": -0.36, "left det": 0.75, "left join": -0.45, "left prep": 0.54, "left pron": 0.34, "left verb": 0.53,
    "left word": -0.95, "length 1": -0.68, "length 10-12": 0.3, "length 2": 0.5, "length 3": 0.39, "length 4": -0.35,
    "length 7-9": -0.5, "match after 0": -0.4, "match after 2": 0.8, "match after far": -0.3, "match before 0": 0.85,
    "match before 1": 1.42, "match before 3-5": -0.5, "match before far": -1.46, "match before none": -0.64,
    "matched after": 0.54, "names a speaker": 0.52, "new words": 2.22, "only a speaker": -0.56, "quoted": 0.6,
    "repeats": -0.82, "right aux": 0.96, "right det": -0.54, "right end": 1.52, "right ing": -0.44,
    "right join": -0.38, "right stop": 0.69, "right to": -0.3, "right word": -0.85, "sentence": 1.47,
    "sentence 0": 0.21, "sentence 3": -0.69, "what first cap": 0.8, "what first det": -0.68, "what first ing": 0.94,
    "what first ly": -0.46, "what first prep": -0.4, "what has unit": -0.91, "what left aux": -0.39,
    "what left det": 1.16, "what left ing": -0.37, "what left join": -0.36, "what left prep": 0.67,
    "what left pron": -0.42, "what left verb": 1.02, "what left word": -0.78, "what length 1": -1.38,
    "what length 10-12": -0.48, "what length 2": 0.23, "what length 3": 0.86, "where first cap": 1.0,
    "where has capital": 0.47, "where has unit": -0.39, "where left to": 0.57, "where length 1": 0.75,
    "where length 10-12": -0.34, "where length 2": 0.67, "where length 3": -0.28, "where length 5-6": -0.3,
    "where length 7-9": -0.35, "who first cap": 0.75, "who has capital": 0.45, "who left aux": 0.42,
    "who length 2": 0.33, "why first to": 0.72, "why left prep": -0.34, "why length 2": -0.54, "why length 5-6": 0.75,
}
CONFIDENCE: dict[str, float] = {
    "bias": -0.39, "cited speaker": 1.3, "cosine": 2.49, "cover": 1.27, "named": -2.01, "named minus others": 1.6,
    "sentence cover": 1.07, "type": 0.25,
}
THRESHOLD = 0.301
