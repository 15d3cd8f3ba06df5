"""Derives the constants of agentmem.reading from LoCoMo conversations, and measures the extractive reader on them.

python benchmarks/fit_reading.py --data LOCOMO_FOLDER [--write agentmem/reading_weights.py] [--cache PAGES.jsonl]

Tables are fitted with each conversation left out in turn, and measured on it; what is shipped is fitted on all. LoCoMo
is the only data: "foreign" questions are its own with the names of the next conversation put in and asked of that one,
which can't answer them. Nothing is random.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from confidence_fit import WAYS, Tables, Tried, abstentions, auc, confidence, fit_confidence, threshold
from locomo_pages import TOP_K, Asked, f1_tokens, gold_f1, load, token_f1, without_names
from softmax_fit import Group, Held, Names, Row, fit

from agentmem import reading, reading_weights
from agentmem.answer_sentences import Candidate, candidates
from agentmem.confidence import signals
from agentmem.dates import day_phrase, spoken
from agentmem.evidence import Evidence
from agentmem.phrases import Phrases
from agentmem.types import PageItem

ELSEWHERE = 0.4
"""What a phrase or sentence is worth, of its own F1, where its turn is not annotated as evidence."""
SENTENCE_FIT = Held(l2=3e-4, crossed=4.0)
PHRASE_FIT = Held(l2=2e-3, crossed=3.0)


def best_f1_in(c: Candidate, gold: list[Counter[str]]) -> float:
    """The best token F1 of any run of twelve words of a sentence."""
    tokens = [f1_tokens(c.text[w.start : w.end]) for w in c.words]
    best = 0.0
    for g in gold:
        for i in range(len(tokens)):
            if not any(t in g for t in tokens[i]):
                continue
            for j in range(i + 1, min(len(tokens), i + 12) + 1):
                best = max(best, counts_f1([t for ts in tokens[i:j] for t in ts], g))
    return best


def counts_f1(said: list[str], gold: Counter[str]) -> float:
    same = sum(min(n, gold.get(t, 0)) for t, n in Counter(said).items())
    return 2 * same / (len(said) + sum(gold.values())) if same else 0.0


def golds(q: Asked) -> list[Counter[str]]:
    answer = q.answer.split(";")[0] if q.category == 3 else q.answer
    parts = [p for p in answer.split(",") if p.strip()] if q.category == 1 else []
    return [Counter(f1_tokens(p)) for p in [*parts, answer]]


def use(sentence: dict[str, float], phrase: dict[str, float]) -> None:
    """Let the reader read with these tables."""
    for table, new in ((reading_weights.SENTENCE, sentence), (reading_weights.PHRASE, phrase)):
        table.clear()
        table.update(new)


class Question:
    """An answerable question with its candidates, and its phrases as far as they were asked for."""

    def __init__(self, asked: Asked, names: Names) -> None:
        self.asked = asked
        self.evidence = Evidence(asked.query, reading.best_items(asked.items), asked.at)
        self.found = candidates(self.evidence)
        self.rows = [names.encode(c.features) for c in self.found]
        self.gold = golds(asked)
        self.values = [self._value(c) for c in self.found]
        self._phrases: dict[int, tuple[list[Row], list[float]]] = {}

    def share(self, c: Candidate) -> float:
        return 1.0 if self.evidence.items[c.item].hit.key in self.asked.evidence else ELSEWHERE

    def _value(self, c: Candidate) -> float:
        if self.evidence.asking.kind != "when":
            return self.share(c) * best_f1_in(c, self.gold)
        said_on = 0.7 * gold_f1(day_phrase(self.evidence.items[c.item].hit.at), self.asked.answer, 2)
        return self.share(c) * max([gold_f1(spoken(d), self.asked.answer, 2) for d in c.dates] or [said_on])

    def phrases(self, c: Candidate, names: Names) -> tuple[list[Row], list[float]]:
        """The phrases of a sentence with their features and values."""
        if id(c) not in self._phrases:
            phrases, rows, values = Phrases(self.evidence, c), [], []
            for i, j in reading.answer_runs(self.evidence, c):
                rows.append(names.encode(phrases.features(i, j)))
                said = f1_tokens(c.text[c.words[i].start : c.words[j - 1].end])
                values.append(self.share(c) * max(counts_f1(said, g) for g in self.gold))
            self._phrases[id(c)] = (rows, values)
        return self._phrases[id(c)]


class Fitter:
    """Fits the two tables on questions; what doesn't depend on the weights is read once."""

    def __init__(self, asked: Sequence[Asked]) -> None:
        self.sentence, self.phrase = Names(), Names()
        self.questions = [Question(q, self.sentence) for q in asked if q.category != 5 and q.items]

    def sentences(self, questions: Sequence[Question]) -> dict[str, float]:
        groups: list[Group] = [(q.rows, q.values) for q in questions if q.values and max(q.values) > 0.15]
        return fit(self.sentence, groups, SENTENCE_FIT)

    def _phrase_group(self, q: Question) -> Group:
        """Phrases of the best sentences, under the sentence table in use."""
        rows: list[Row] = []
        values: list[float] = []
        ranked = reading.rank_sentences(q.evidence, q.found)
        for rank, (score, c) in enumerate(reading.sentences_read(q.evidence, ranked)):
            places, worths = self.phrase.encode(reading.sentence_part(score - ranked[0][0], rank))
            of_c, values_of_c = q.phrases(c, self.phrase)
            rows += [(np.concatenate([i, places]), np.concatenate([v, worths])) for i, v in of_c]
            values += values_of_c
        return rows, values

    def tables(self, without: str = "") -> tuple[dict[str, float], dict[str, float]]:
        """The sentence and the phrase table from all conversations but one. For the phrases of each conversation the
        sentences are ranked by a table fitted on the others: so they stand in the order that an unseen one has."""
        used = [q for q in self.questions if q.asked.conversation != without]
        groups: list[Group] = []
        for fold in sorted({q.asked.conversation for q in used}):
            use(self.sentences([q for q in used if q.asked.conversation != fold]), {})
            groups += [
                self._phrase_group(q)
                for q in used
                if q.asked.conversation == fold and q.evidence.asking.kind not in ("when", "yesno")
            ]
        groups = [g for g in groups if g[1] and max(g[1]) > 0.15]
        return self.sentences(used), fit(self.phrase, groups, PHRASE_FIT)


def raw_signals(query: str, items: tuple[PageItem, ...], at: datetime | None) -> dict[str, float]:
    """The confidence rule's signals for what the reader would cite."""
    evidence = Evidence(query, reading.best_items(items), at)
    ranked = reading.rank_sentences(evidence)
    parts, _ = reading.parts_of(evidence, ranked)
    return signals(evidence, [c for _, c in ranked], parts[0][1])


def try_all(asked: list[Asked], said: list[str]) -> list[Tried]:
    out = []
    for q, span in zip(asked, said, strict=True):
        names = {i.hit.name for i in q.items if i.hit.name}
        others = {i.hit.name for i in q.foreign if i.hit.name}
        ways = [("adversarial" if q.category == 5 else "answerable", q.query, q.items)]
        if q.category != 5:
            ways += [
                ("answerable, no name", without_names(q.query, names), q.items),
                ("foreign", q.foreign_query, q.foreign),
                ("foreign, no name", without_names(q.foreign_query, others), q.foreign),
            ]
        f1 = gold_f1(span, q.answer, q.category) if q.category != 5 else 0.0
        out += [Tried(q.conversation, way, raw_signals(query, items, q.at), f1) for way, query, items in ways if items]
    return out


def f1_line(name: str, scored: list[tuple[int, float]]) -> str:
    by = {c: [s for k, s in scored if k == c] for c in (1, 2, 3, 4)}
    cells = " / ".join(f"{100 * float(np.mean(by[c])):5.1f}" for c in by)
    return f"{name:44s} | {cells} | {100 * float(np.mean([s for _, s in scored])):5.1f}  n={len(scored)}"


def spans(asked: list[Asked]) -> list[str]:
    """What the reader would answer if it never abstained."""
    reading.THRESHOLD, kept = -1.0, reading.THRESHOLD
    try:
        return [reading.read(q.query, q.items, asked_at=q.at).span for q in asked]
    finally:
        reading.THRESHOLD = kept


def scored(asked: list[Asked], said: list[str], audited: bool = True) -> list[tuple[int, float]]:
    return [
        (q.category, gold_f1(s, q.answer, q.category))
        for q, s in zip(asked, said, strict=True)
        if q.category != 5 and (audited or not q.audited)
    ]


def plain(asked: list[Asked], said: list[str]) -> list[tuple[int, float]]:
    """One F1 over the whole answer for every category, multi-hop too."""
    return [(q.category, token_f1(s, q.answer)) for q, s in zip(asked, said, strict=True) if q.category != 5]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--embedder", default="auto")
    parser.add_argument("--cache", type=Path, help="keep what is found for the questions in this file of JSON lines")
    parser.add_argument("--write", type=Path, help="write the constants as this Python file")
    args = parser.parse_args()
    print(f"python {sys.version.split()[0]}, numpy {np.__version__} (nothing here is random)")
    asked = load(args.data, args.embedder, args.cache)
    folds = sorted({q.conversation for q in asked})
    print(f"{len(asked)} questions of {', '.join(folds)}; the best {TOP_K} hits of agentmem's search")
    print("token F1 x100 by category (1 multi-hop / 2 temporal / 3 open / 4 single-hop) | mean; nothing abstained")
    print(f1_line("constants as they stand (fitted on these)", scored(asked, spans(asked))))
    fitter = Fitter(asked)
    held_asked, held_said, tried = [], [], []
    for fold in folds:
        held = [q for q in asked if q.conversation == fold]
        use(*fitter.tables(without=fold))
        held_asked += held
        held_said += spans(held)
        tried += try_all(held, held_said[-len(held) :])
    print(f1_line("leave one conversation out", scored(held_asked, held_said)))
    print(f1_line("leave one out, audited questions left out", scored(held_asked, held_said, audited=False)))
    print(f1_line("leave one out, lists scored as one text", plain(held_asked, held_said)))
    abstentions(tried, folds)
    for name in sorted({n for t in tried for n in t.found} - {"bias"}):
        value = {way: [t.found.get(name, 0.0) for t in tried if t.way == way] for way in WAYS}
        print(f"  {name} alone: AUC against adversarial {auc(value['answerable'], value['adversarial']):.3f}, "
              f"foreign {auc(value['answerable'], value['foreign']):.3f}")  # fmt: skip

    sentence, phrase = fitter.tables()
    use(sentence, phrase)
    table = fit_confidence(tried)
    told = [confidence(t.found, table) for t in tried if t.way == "answerable"]
    print(f1_line("fitted on all five (what is shipped)", scored(asked, spans(asked))))
    print(f"{len(sentence)} sentence weights, {len(phrase)} phrase weights")
    print(f"CONFIDENCE_NAMED = {table[0]}\nCONFIDENCE = {table[1]}")
    print(f"THRESHOLD = {threshold(told, 0.05)}, THRESHOLD_10 = {threshold(told, 0.1)}")
    if args.write:
        write(args.write, sentence, phrase, table, (threshold(told, 0.05), threshold(told, 0.1)))


def write(
    path: Path,
    sentence: dict[str, float],
    phrase: dict[str, float],
    tables: Tables,
    cuts: tuple[float, float],
) -> None:
    lines = ['"""What the features of the reader are worth. Written by `benchmarks/fit_reading.py`: not by hand."""',
             "", "from __future__ import annotations", ""]  # fmt: skip
    for name, weights in (
        ("SENTENCE", sentence),
        ("PHRASE", phrase),
        ("CONFIDENCE_NAMED", tables[0]),
        ("CONFIDENCE", tables[1]),
    ):
        lines.append(f"{name}: dict[str, float] = {{")
        line = "   "
        for f, w in weights.items():
            cell = f' "{f}": {w},'
            if len(line) + len(cell) > 118:
                lines.append(line)
                line = "   "
            line += cell
        lines += [line, "}  # fmt: skip"]
    lines += [
        f"THRESHOLD = {cuts[0]}",
        '"""Declines a twentieth of what can be answered, on conversations that were left out of the fit."""',
        f"THRESHOLD_10 = {cuts[1]}",
        '"""Declines a tenth of it."""',
    ]
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
