"""All benchmarks that need no data from elsewhere, one after the other, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks import machine

NAMES = ("start_up", "ingest_cost", "turn_cost")


def main() -> None:
    """Run them."""
    options = machine.parser(__doc__).parse_args()
    documents: dict[str, object] = {}
    failed: list[str] = []
    for name in NAMES:
        command = [sys.executable, "-m", f"benchmarks.{name}", "--seed", str(options.seed)]
        if options.json:
            done = subprocess.run([*command, "--json"], stdout=subprocess.PIPE, text=True, check=False)
            documents[name] = json.loads(done.stdout) if done.stdout.strip() else None
        else:
            print(f"== {name}", flush=True)
            done = subprocess.run(command, text=True, check=False)
            print(flush=True)
        if done.returncode:
            failed.append(name)
    if options.json:
        print(json.dumps(documents, ensure_ascii=False))
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
