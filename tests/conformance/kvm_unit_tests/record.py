"""Write what the runs print now: `python -m tests.conformance.kvm_unit_tests.record DIR [RUN...]`.

The file holds the names of the subtests and the verdict that hardware gives, which is PASS, or
SKIP where the machine lacks what the subtest needs. A FAIL is refused: it is a bug or it belongs
into the table of the README with its reason.
"""

from __future__ import annotations

import gzip
import json
import sys
import time
from pathlib import Path

from emu.cpu.errors import NotImplementedInstruction
from tests.conformance.kvm_unit_tests.runs import RUNS, perform, verdicts

FILE = Path(__file__).with_name("verdicts.json.gz")


def tell(line: str) -> None:
    """A line on stdout, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(folder: Path, names: list[str]) -> None:
    """Record the runs named, or all."""
    known = json.loads(gzip.decompress(FILE.read_bytes())) if FILE.exists() else {}
    for run in RUNS:
        if names and run.name not in names:
            continue
        began = time.process_time()
        try:
            outcome, text = perform(run, folder)
        except NotImplementedInstruction as stop:
            tell(f"{run.name} not recorded: {stop}")
            continue
        lines = verdicts(run, text)
        words = [word for word, _ in lines]
        counts = {word: words.count(word) for word in ("PASS", "FAIL", "SKIP")}
        seconds = time.process_time() - began
        counted = ", ".join(f"{count} {word}" for word, count in counts.items())
        tell(f"{run.name}: {counted}, {outcome.instructions} instructions")
        tell(f"  {seconds:.1f} s of processor time")
        if counts["FAIL"] or outcome.status != run.status:
            tell(f"  not recorded: {outcome.reason.value}")
            continue
        known[run.name] = lines
        content = json.dumps(dict(sorted(known.items())), indent=0).encode()
        FILE.write_bytes(gzip.compress(content, mtime=0))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
