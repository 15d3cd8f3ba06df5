"""What the features of the reader are worth. Written by `benchmarks/fit_reading.py`; don't edit by hand."""

from __future__ import annotations

SENTENCE: dict[str, float] = {
    "answers a question": 2.11, "asked days": 2.03, "asks": -1.39, "bracketed": -0.39, "cover": 3.52,
    "duration type": 1.34, "first person": 0.91, "focus": 0.41, "item cover": 0.67, "item dated": 1.14, "new": 1.64,
    "no content": -0.3, "number type": 1.05, "polite": -1.13, "previous cover": 1.18, "score": 2.79,
    "second person": -0.39, "speaker": 1.43, "top": 0.6, "type": 2.82, "when type": 1.18, "where type": 0.58,
    "who type": 1.42, "why type": 0.74,
}
PHRASE: dict[str, float] = {
    "after because": 0.37, "after verb 0": 0.92, "after verb 1": 1.01, "after verb 2": 0.49, "all capital": 1.36,
    "all repeats": -1.6, "cuts a name": -1.27, "cuts its name": -0.95, "duration first num": 1.51,
    "duration has number": 0.41, "duration has unit": 1.14, "duration length 2": 0.56, "duration length 7-9": -0.38,
    "first cap": 1.75, "first det": -1.05, "first ing": 0.33, "first prep": -0.6, "first word": -0.54,
    "has auxiliary": -1.09, "has focus": 1.53, "has pronoun": -1.83, "how first verb": 0.36, "how has capital": -0.51,
    "how left aux": 0.76, "how left det": -0.33, "how length 10-12": 0.87, "how length 2": -0.64, "last cap": 1.34,
    "last pron": -0.49, "left det": 0.75, "left join": -0.5, "left prep": 0.55, "left word": -0.88, "length 1": -0.46,
    "length 10-12": 0.49, "length 2": 0.72, "length 3": 0.18, "length 4": -0.48, "length 7-9": -0.44,
    "match after 0": -0.41, "match after 1": -0.24, "match after 2": 0.95, "match after 3-5": 0.48,
    "match before 0": 0.38, "match before 1": 1.6, "match before 2": 0.42, "match before 3-5": -0.43,
    "match before far": -1.5, "match before none": -0.47, "matched after": 0.45, "new words": 1.98,
    "number first num": 1.02, "number has number": 1.0, "only a speaker": -1.62, "quoted": 0.6, "repeats": -0.87,
    "right aux": 0.89, "right det": -0.74, "right end": 1.53, "right ing": -0.36, "right pron": -0.45,
    "right stop": 0.75, "right to": -0.46, "right word": -0.3, "sentence": 1.33, "sentence 0": 0.81,
    "sentence 3": -0.81, "what first cap": 0.66, "what first det": -0.63, "what first ing": 0.79,
    "what first ly": -0.49, "what has capital": 0.7, "what left aux": -0.3, "what left det": 1.06,
    "what left join": -0.31, "what left prep": 0.79, "what left pron": -0.7, "what left verb": 0.34,
    "what left word": -0.78, "what length 1": -1.52, "what length 3": 0.89, "where first cap": 2.0,
    "where has capital": 0.72, "where left to": 0.44, "where length 1": 0.76, "where length 2": 0.39,
    "where length 7-9": -0.31, "who first cap": 1.64, "who has capital": 0.94, "who left cut": -0.28,
    "who length 2": 0.6, "who length 5-6": -0.41, "why after because": 2.2, "why first to": 0.51,
    "why length 1": -0.33, "why length 10-12": 0.65, "why length 2": -0.64, "why length 5-6": 0.64,
}
CONFIDENCE: dict[str, float] = {
    "bias": -1.46, "cited speaker": 1.24, "cosine": 2.2, "cover": 1.41, "named": -0.97, "named minus others": 1.85,
    "sentence cover": 1.01, "type": 0.26,
}
THRESHOLD = 0.252
