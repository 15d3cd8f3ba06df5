"""The laws of `agentmem.protocols` as test classes: inherit one, give its fixtures, and pytest runs them on a driver.

    class TestMyBackend(BackendContract):
        @pytest.fixture
        def backend(self):
            return MyBackend()

Nothing here imports pytest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from agentmem.backend_contract import TEXTS, BackendContract
from agentmem.errors import AgentMemError, IndexDamagedError
from agentmem.protocols import Embedder, VectorIndex
from agentmem.types import InputType

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["TEXTS", "BackendContract", "EmbedderContract", "VectorIndexContract"]
_UNIT = 1e-4
_SAME = 0.9999


class EmbedderContract:
    """Laws of Embedder. Override the fixture `embedder`."""

    def _embed(self, embedder: Embedder, texts: list[str], input_type: InputType = "document") -> NDArray[np.float32]:
        import numpy as np

        rows = embedder.embed(texts, input_type=input_type)
        assert rows.dtype == np.float32
        assert rows.shape == (len(texts), embedder.dim)
        assert bool(np.isfinite(rows).all())
        lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
        assert bool((np.abs(lengths - 1.0) < _UNIT).all()), f"rows must be of unit length: {lengths}"
        return rows

    def _cosines(self, a: NDArray[np.float32], b: NDArray[np.float32]) -> list[float]:
        return [float(c) for c in (a.astype(float) * b.astype(float)).sum(axis=1)]

    def test_says_what_it_is(self, embedder: Embedder) -> None:
        assert embedder.model_id and isinstance(embedder.model_id, str)
        assert embedder.max_tokens > 0
        assert embedder.dim > 0

    def test_no_rows_for_no_texts(self, embedder: Embedder) -> None:
        self._embed(embedder, [])

    def test_unit_rows(self, embedder: Embedder) -> None:
        self._embed(embedder, list(TEXTS))
        self._embed(embedder, list(TEXTS), "query")

    def test_a_row_depends_on_its_text_alone(self, embedder: Embedder) -> None:
        texts = [f"{t} {'very ' * n}long" for n, t in enumerate(TEXTS * 10)]
        together = self._embed(embedder, texts)
        backwards = self._embed(embedder, texts[::-1])[::-1]
        cosines = self._cosines(together, backwards)
        assert min(cosines) > _SAME, f"the order of a batch changes rows: {min(cosines)}"
        alone = [self._embed(embedder, [t])[0] for t in texts[:5]]
        for row, single in zip(together, alone, strict=False):
            assert float(row @ single) > _SAME, f"a row differs when its text is alone: {float(row @ single)}"

    def test_different_texts_differ(self, embedder: Embedder) -> None:
        rows = self._embed(embedder, list(TEXTS))
        for i in range(len(TEXTS)):
            for j in range(i):
                assert float(rows[i] @ rows[j]) < _SAME, f"{TEXTS[i]!r} and {TEXTS[j]!r} get the same row"

    def test_the_empty_text_and_odd_ones_have_rows(self, embedder: Embedder) -> None:
        self._embed(embedder, ["", " \n\t", "!?", "\x00", "half a pair: \ud83d", "a\u2028b"])

    def test_a_text_beyond_the_limit_is_cut(self, embedder: Embedder) -> None:
        # Unlimited models exist: there is nothing to cut, and a text to show it would be huge.
        words = "word " * (min(embedder.max_tokens, 10_000) + 50)
        rows = self._embed(embedder, [words, words + "entirely different at the end"])
        if embedder.max_tokens <= 10_000:
            assert float(rows[0] @ rows[1]) > _SAME, "what stands behind max_tokens must not change the row"

    def test_counter_laws(self, embedder: Embedder) -> None:
        counter = embedder.counter
        assert counter.name
        assert counter.count("") == 0
        for text in TEXTS:
            assert counter.count(text) == counter.count(text) > 0
        if counter.additive:
            assert counter.count("\n".join(TEXTS)) == sum(counter.count(t) for t in TEXTS)

    def test_errors_are_of_the_tree(self, embedder: Embedder) -> None:
        try:
            self._embed(embedder, ["word " * 100_000])
        except AgentMemError as e:
            assert str(e)


class VectorIndexContract:
    """Laws of VectorIndex. Override the fixture `make_index`: a function from a dimension to an empty index.

    The pools of the tests are small: an approximate index, too, finds the nearest in them. One that reads rows from
    elsewhere must know those that any index of the same test was given. The rows have components that floats hold
    exactly, so that ties are ties whatever the order of a sum.
    """

    def _rows(self, *signs: str) -> NDArray[np.float32]:
        import numpy as np

        return np.array([[{"+": 0.5, "-": -0.5}[s] for s in row] for row in signs], np.float32)

    def _ids(self, *ids: int) -> NDArray[np.int64]:
        import numpy as np

        return np.array(ids, np.int64)

    @staticmethod
    def _copy(make_index: Callable[[int], VectorIndex], index: VectorIndex) -> VectorIndex:
        copy = make_index(index.dim)
        copy.load(dict(index.parts()))
        return copy

    def test_an_empty_index(self, make_index: Callable[[int], VectorIndex]) -> None:
        index = make_index(4)
        assert (len(index), index.dim, index.ids().tolist()) == (0, 4, [])
        query = self._rows("++++")[0]
        assert index.search(query, top_k=5) == []
        assert index.search(query, top_k=5, allowed=self._ids(1, 2)) == []
        assert index.remove(self._ids(7)) == 0
        index.add(self._ids(), self._rows().reshape(0, 4))
        assert self._copy(make_index, index).search(query, top_k=3) == []
        assert index.search(query, top_k=5, excluded=self._ids(1, 2)) == []

    def test_best_first_and_never_more_than_there_are(self, make_index: Callable[[int], VectorIndex]) -> None:
        index = make_index(4)
        index.add(self._ids(9, 4, 6), self._rows("++--", "++++", "+++-"))
        query = self._rows("++++")[0]
        assert index.search(query, top_k=100) == [(4, 1.0), (6, 0.5), (9, 0.0)]
        assert index.search(query, top_k=2) == [(4, 1.0), (6, 0.5)]
        assert index.search(query, top_k=0) == []
        assert index.ids().tolist() == [4, 6, 9]

    def test_ties_go_to_the_lower_id_whatever_the_order_of_adding(
        self, make_index: Callable[[int], VectorIndex]
    ) -> None:
        import numpy as np

        for count in (7, 300):
            index = make_index(4)
            backwards = np.arange(count, 0, -1, dtype=np.int64)
            index.add(backwards, np.repeat(self._rows("++++"), count, axis=0))
            index.add(self._ids(count + 1), self._rows("----"))
            for top_k in (1, 5, count // 2, count):
                found = index.search(self._rows("++++")[0], top_k=top_k)
                assert found == [(i, 1.0) for i in range(1, top_k + 1)]
            allowed = np.arange(2, count + 1, 2, dtype=np.int64)
            found = index.search(self._rows("++++")[0], top_k=3, allowed=allowed)
            assert found == [(2, 1.0), (4, 1.0), (6, 1.0)]

    def test_adding_an_id_again_replaces_its_row(self, make_index: Callable[[int], VectorIndex]) -> None:
        index = make_index(4)
        index.add(self._ids(1, 2), self._rows("++++", "----"))
        index.add(self._ids(1, 3, 3), self._rows("----", "++++", "++--"))
        assert len(index) == 3
        assert index.search(self._rows("++++")[0], top_k=9) == [(3, 0.0), (1, -1.0), (2, -1.0)]

    def test_what_was_removed_never_comes_back(self, make_index: Callable[[int], VectorIndex]) -> None:
        index = make_index(4)
        index.add(self._ids(1, 2, 3), self._rows("++++", "+++-", "++--"))
        assert index.remove(self._ids(2, 2, 77)) == 1
        query = self._rows("+++-")[0]
        for one in (index, self._copy(make_index, index)):
            assert [i for i, _ in one.search(query, top_k=9)] == [1, 3]
            assert one.search(query, top_k=9, allowed=self._ids(2)) == []
            assert (len(one), one.ids().tolist()) == (2, [1, 3])
        assert index.remove(self._ids(1, 3)) == 2
        assert index.search(query, top_k=9) == []

    def test_allowed_is_part_of_the_search(self, make_index: Callable[[int], VectorIndex]) -> None:
        import numpy as np

        index = make_index(4)
        near = np.arange(1, 201, dtype=np.int64)
        index.add(near, np.repeat(self._rows("++++"), 200, axis=0))
        index.add(self._ids(500, 400), self._rows("---+", "--++"))
        query = self._rows("++++")[0]
        # 200 nearer ones stand before them: a filter after the fact would find nothing.
        assert index.search(query, top_k=2, allowed=self._ids(400, 500, 999)) == [(400, 0.0), (500, -0.5)]
        assert index.search(query, top_k=2, allowed=self._ids()) == []

    def test_excluded_is_part_of_the_search(self, make_index: Callable[[int], VectorIndex]) -> None:
        import numpy as np

        index = make_index(4)
        near = np.arange(1, 401, dtype=np.int64)
        index.add(near, np.repeat(self._rows("++++"), 400, axis=0))
        index.add(self._ids(500, 600), self._rows("--++", "---+"))
        query = self._rows("++++")[0]
        # Few and many ids: an index may tell them apart in different ways.
        for excluded in (near, np.append(near, [7, 999])):
            assert index.search(query, top_k=2, excluded=excluded) == [(500, 0.0), (600, -0.5)]
        assert index.search(query, top_k=2, excluded=self._ids(1, 3)) == [(2, 1.0), (4, 1.0)]
        assert index.search(query, top_k=2, excluded=self._ids()) == [(1, 1.0), (2, 1.0)]
        assert index.search(query, top_k=900, excluded=index.ids()) == []
        try:
            index.search(query, top_k=2, excluded=self._ids(1), allowed=self._ids(2))
        except ValueError:
            return
        raise AssertionError("allowed and excluded were taken together")

    def test_parts_stand_for_the_moment_of_the_first(self, make_index: Callable[[int], VectorIndex]) -> None:
        index = make_index(4)
        index.add(self._ids(1, 2, 3), self._rows("++++", "+++-", "++--"))
        steps = index.parts()
        parts = dict([next(steps)])
        index.add(self._ids(4), self._rows("----"))
        index.remove(self._ids(2))
        parts.update(steps)
        copy = make_index(4)
        copy.load(parts)
        assert set(copy.ids().tolist()) in ({1, 3}, {1, 2, 3})

    def test_serialised_it_searches_equally(self, make_index: Callable[[int], VectorIndex]) -> None:
        import numpy as np

        rows = np.random.default_rng(7).normal(size=(40, 8)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        index = make_index(8)
        index.add(np.arange(40, dtype=np.int64) * 3, rows)
        again = self._copy(make_index, index)
        assert (again.kind, again.dim, len(again)) == (index.kind, 8, 40)
        for query in rows[:10]:
            assert again.search(query, top_k=7) == index.search(query, top_k=7)
        again.add(self._ids(1), rows[:1])
        again.remove(self._ids(0))
        assert again.search(rows[0], top_k=1)[0][0] == 1

    def test_parts_that_are_no_index_are_said_to_be_damaged(self, make_index: Callable[[int], VectorIndex]) -> None:
        index = make_index(4)
        index.add(self._ids(1, 2, 3), self._rows("++++", "+++-", "++--"))
        whole = dict(index.parts())
        spoilt: list[dict[str, bytes]] = [{}]
        for name, data in whole.items():
            spoilt.append({n: d for n, d in whole.items() if n != name})
            spoilt += [{**whole, name: wrong} for wrong in (b"", b"junk", data[:-1], data[: len(data) // 2], data * 2)]
        for parts in spoilt:
            try:
                make_index(4).load(parts)
            except IndexDamagedError:
                continue
            raise AssertionError(f"{ {n: len(d) for n, d in parts.items()} } was taken for an index")
        try:
            make_index(8).load(whole)
        except IndexDamagedError:
            return
        raise AssertionError("an index of another dimension was taken")
