"""Writes tests/golden/conversation.json anew: `python -m tests.agent.regenerate`. Read the difference before keeping it."""  # noqa: E501

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from tests.agent.test_agent import GOLDEN, golden


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = golden(Path(folder) / "g.db")
    rows = {part: [json.dumps(r, ensure_ascii=False, sort_keys=True) for r in found[part]] for part in sorted(found)}
    parts = [f'"{part}": [\n' + ",\n".join(lines) + "\n]" for part, lines in rows.items()]
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text("{" + ",\n".join(parts) + "}\n", encoding="utf-8")
    print(f"{GOLDEN}: {', '.join(f'{len(v)} {k}' for k, v in rows.items())}")


if __name__ == "__main__":
    main()
