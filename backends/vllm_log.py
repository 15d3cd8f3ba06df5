"""The engine's own log, kept in a file while it lives: what went wrong in its processes is told there alone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

_ERROR = re.compile(r"^(?:[\w.]+\.)?(\w+(?:Error|Exception|Interrupt)): (.+)$", re.MULTILINE)


class EngineLog:
    """A file that the engine's processes log to, in a folder of its own, gone with `close`.

    On the terminal vLLM is silent unless the environment sets VLLM_LOGGING_LEVEL; a logging configuration of the user's
    (VLLM_LOGGING_CONFIG_PATH, VLLM_CONFIGURE_LOGGING) is left alone, and `settings` is then None.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._folder = TemporaryDirectory(prefix="agentmem-vllm-")
        self._file = Path(self._folder.name) / "engine.log"
        self.settings: str | None = None
        if "VLLM_LOGGING_CONFIG_PATH" in environment or environment.get("VLLM_CONFIGURE_LOGGING") == "0":
            return
        target = Path(self._folder.name) / "logging.json"
        level = environment.get("VLLM_LOGGING_LEVEL", "").upper()
        target.write_text(json.dumps(_dict_config(self._file, level)), encoding="utf-8")
        self.settings = str(target)

    def cause(self) -> str:
        """The last error that stands in the log, as `ErrorName: text`; "" when there is none."""
        if not self._file.exists():
            return ""
        found = _ERROR.findall(self._file.read_text(encoding="utf-8", errors="replace"))
        # Those that only point to another one are left out.
        told = [(name, text) for name, text in found if "root cause" not in text]
        return f"{told[-1][0]}: {told[-1][1].strip()}" if told else ""

    def close(self) -> None:
        """Remove the folder; may be called twice."""
        self._folder.cleanup()


def _dict_config(file: Path, level: str) -> dict[str, Any]:
    handlers: dict[str, Any] = {
        "file": {"class": "logging.FileHandler", "filename": str(file), "formatter": "plain", "encoding": "utf-8"}
    }
    if level:
        handlers["terminal"] = {"class": "logging.StreamHandler", "formatter": "plain", "level": level}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"plain": {"format": "%(levelname)s %(asctime)s [%(processName)s] %(message)s"}},
        "handlers": handlers,
        "loggers": {
            "vllm": {"handlers": list(handlers), "level": "DEBUG" if level == "DEBUG" else "INFO", "propagate": False}
        },
    }
