"""What the compressors through the package llmlingua have in common, as a test class."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from agentmem.compression import shown
from agentmem.compressor_contract import ODD, STORY
from agentmem.compressors.llmlingua_base import PackageCompressor, sound
from agentmem.errors import CompressionError, ConfigError, MissingExtraError
from agentmem.registry import make_compressor
from tests.compressors.laws import SENTENCES, asked
from tests.compressors.model_passes import model_passes

SHARES = (0.65, 0.4, 0.2)
SHORT = SENTENCES[0]
LONG = " ".join(f"{s} Entry {n}." for n in range(2) for s in SENTENCES if s.isascii())
QUERY = "Where does Anna live?"


class PackageContract:
    """Give the fixtures `path`, a tiny random model that `kind` takes, `compressor`, made of it without options, and
    `other`, a model that it does not take.

    `options` are settings that change results; `refused` are (options, a part of the error); `passes` is how often a
    text of one segment is read, whatever the targets.
    """

    kind: type[PackageCompressor[Any]]
    options: ClassVar[Sequence[str]] = ()
    refused: ClassVar[Sequence[tuple[str, str]]] = ()
    wrong = ""
    passes = 1

    def test_a_text_is_read_once_for_all_targets(self, compressor: PackageCompressor[Any]) -> None:
        requests = [asked(STORY, share=s, query=QUERY) for s in SHARES]
        alone = [compressor.compress([r])[0] for r in requests]
        assert len({r and r.parts for r in alone}) == len(SHARES)
        assert model_passes(lambda: compressor.compress(requests[:1])) == self.passes
        assert model_passes(lambda: compressor.compress(requests)) == self.passes
        again = [r for share in SHARES for r in (asked(STORY, share=share, query=QUERY), asked(ODD[3], share=share))]
        assert model_passes(lambda: compressor.compress(again)) <= 2 * self.passes
        assert compressor.compress(again)[::2] == alone

    @pytest.mark.parametrize("texts", [(LONG,), (STORY, SHORT, LONG[:700]), (*ODD, STORY)])
    def test_targets_together_are_as_alone(self, compressor: PackageCompressor[Any], texts: tuple[str, ...]) -> None:
        requests = [
            asked(*some, share=share, query=query)
            for share in SHARES
            for some in (texts, texts[:1])
            for query in ("", QUERY)
        ]
        assert compressor.compress(requests) == [compressor.compress([r])[0] for r in requests]
        apart = sum(model_passes(lambda r=r: compressor.compress([r])) for r in requests)
        assert model_passes(lambda: compressor.compress(requests)) < apart

    def test_nothing_stays_known(self, compressor: PackageCompressor[Any]) -> None:
        """What was erased meanwhile is nowhere."""
        assert model_passes(lambda: compressor.compress([asked(STORY)])) > 0
        assert model_passes(lambda: compressor.compress([asked(STORY)])) > 0

    @pytest.mark.parametrize("text", [*ODD, "😀" * 400, "漢" * 700, "\ud83d x " * 30])
    def test_no_sign_is_garbled(self, compressor: PackageCompressor[Any], text: str) -> None:
        both = f"{text}\nThat was it, and we went home."
        assert len(sound(both)) == len(both)
        found = compressor.compress([asked(both, share=0.7)])[0]
        assert found is not None
        assert all(c in both for c in shown(both, found.parts[0]).split())

    def test_threads_take_turns(self, compressor: PackageCompressor[Any]) -> None:
        requests = [asked(t, share=0.6) for t in (STORY, *ODD)]
        alone = compressor.compress(requests)
        out: dict[int, object] = {}
        threads = [
            threading.Thread(target=lambda n=n: out.update({n: compressor.compress(requests[n : n + 1])[0]}))
            for n in range(len(requests))
        ]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert [out[n] for n in range(len(requests))] == alone

    def test_settings_are_in_the_fingerprint(self, path: Path) -> None:
        options = ("", "?rate=0.5", "?keep=flat", *self.options)
        assert len({self.kind(f"{path}{o}").fingerprint for o in options}) == len(options)
        assert self.kind(str(path), rate=0.5).fingerprint == self.kind(f"{path}?rate=0.5").fingerprint
        made = make_compressor(f"{self.kind.name}:{path}?rate=0.5")
        assert type(made) is self.kind and made.fingerprint == self.kind(str(path), rate=0.5).fingerprint

    def test_what_is_refused(self, path: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for target, said in (
            *((f"{path}{options}", said) for options, said in self.refused),
            (f"{path}?treshold=global", "known: "),
            (f"{path}?rate=-1", "from 0.0 to 1.0"),
            (f"{path}?rate=2", "from 0.0 to 1.0"),
            (f"{path}?rate=half", "must be a number"),
            (f"{path}?dtype=int4", "one of "),
            (str(tmp_path / "none"), "is no folder"),
            ("", "no model is named"),
        ):
            with pytest.raises(ConfigError, match=said):
                self.kind(target)
        with pytest.raises(ConfigError, match=self.wrong):
            self.kind(str(other)).compress([asked(STORY)])
        monkeypatch.setitem(sys.modules, "llmlingua", None)
        monkeypatch.setattr("agentmem.compressors.llmlingua_base.find_spec", lambda name: None)
        with pytest.raises(MissingExtraError, match="llmlingua") as caught:
            make_compressor(f"{self.kind.name}:{path}")
        assert caught.value.extra == "llmlingua"

    def test_a_failure_of_the_package_is_a_compression_error(
        self, compressor: PackageCompressor[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for error in (AssertionError(""), IndexError("a"), RuntimeError("not enough memory"), MemoryError()):

            def fail(*_: object, error: Exception = error, **__: object) -> None:
                raise error

            monkeypatch.setattr(compressor._loaded(), "compress_prompt", fail)
            with pytest.raises(CompressionError) as caught:
                compressor.compress([asked(STORY)])
            assert caught.value.hint and caught.value.compressor == self.kind.name
