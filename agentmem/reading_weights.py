"""What the features of the reader are worth. Written by `benchmarks/fit_reading.py`; don't edit by hand."""

from __future__ import annotations

SENTENCE: dict[str, float] = {
    "answers a question": 2.08, "asked days": 2.02, "asks": -1.43, "bracketed": -0.41, "cover": 3.59,
    "duration type": 1.35, "first person": 0.9, "focus": 0.48, "item cover": 0.67, "item dated": 1.14, "new": 1.61,
    "no content": -0.32, "number type": 1.05, "polite": -1.09, "previous cover": 1.23, "score": 2.78,
    "second person": -0.41, "speaker": 1.42, "top": 0.61, "type": 2.76, "when type": 1.18, "where type": 0.59,
    "who type": 1.33, "why type": 0.76,
}
PHRASE: dict[str, float] = {
    "after because": 0.57, "after verb 0": 0.75, "after verb 1": 1.51, "after verb 2": 0.45, "after verb far": -0.43,
    "all capital": 1.28, "all repeats": -1.56, "cuts a name": -1.15, "cuts its name": -1.04,
    "duration first num": 1.58, "duration has number": 0.49, "duration has unit": 1.17, "duration length 2": 0.56,
    "duration length 7-9": -0.38, "first cap": 1.8, "first det": -0.73, "first ing": 0.41, "first prep": -0.81,
    "first word": -0.57, "has auxiliary": -1.35, "has focus": 1.29, "has pronoun": -1.89, "how first aux": 0.49,
    "how has capital": -0.52, "how has unit": -0.35, "how left aux": 0.66, "how left det": -0.34,
    "how left pron": 0.77, "how left verb": -0.28, "how length 10-12": 1.19, "how length 2": -0.45,
    "how length 5-6": -0.37, "last cap": 1.42, "last num": 0.31, "last pron": -0.41, "last verb": -0.28,
    "last word": -0.39, "left det": 0.64, "left prep": 0.5, "left pron": 0.48, "left verb": 0.41, "left word": -0.99,
    "length 1": -0.57, "length 10-12": 0.32, "length 2": 0.73, "length 3": 0.26, "length 4": -0.33,
    "length 7-9": -0.56, "match after 0": -0.3, "match after 2": 0.85, "match after far": -0.47,
    "match before 0": 0.83, "match before 1": 1.29, "match before 3-5": -0.46, "match before far": -1.53,
    "match before none": -0.58, "matched after": 0.77, "new words": 2.19, "number first num": 0.96,
    "number has number": 1.0, "number has unit": 0.34, "only a speaker": -1.53, "quoted": 0.46, "repeats": -0.86,
    "right aux": 0.9, "right det": -0.59, "right end": 1.6, "right ing": -0.45, "right ly": 0.27, "right pron": -0.35,
    "right stop": 0.61, "right to": -0.29, "right word": -0.88, "sentence": 1.45, "sentence 0": 0.65,
    "sentence 1": 0.5, "sentence 3": -0.53, "what first cap": 0.95, "what first det": -0.69, "what first ing": 0.75,
    "what first prep": -0.47, "what has unit": -0.54, "what left aux": -0.47, "what left det": 1.29,
    "what left join": -0.39, "what left prep": 0.62, "what left pron": -0.77, "what left verb": 1.22,
    "what left word": -0.84, "what length 1": -1.48, "what length 10-12": -0.41, "what length 3": 0.95,
    "what length 7-9": 0.29, "where first cap": 1.77, "where has capital": 0.34, "where has number": -0.3,
    "where has unit": -0.32, "where left prep": 0.42, "where left to": 0.53, "where length 1": 0.63,
    "where length 2": 0.69, "where length 5-6": -0.32, "where length 7-9": -0.3, "who first cap": 1.67,
    "who has capital": 1.0, "who left ing": 0.31, "who length 10-12": -0.39, "why after because": 2.28,
    "why first to": 0.63, "why left join": 0.36, "why length 10-12": 0.6, "why length 2": -0.66,
    "why length 5-6": 0.85,
}
CONFIDENCE: dict[str, float] = {
    "bias": -0.47, "cited speaker": 1.29, "cosine": 2.58, "cover": 1.04, "named": -1.83, "named minus others": 1.61,
    "sentence cover": 1.43, "type": 0.17,
}
THRESHOLD = 0.301
