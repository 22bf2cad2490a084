# SPDX-License-Identifier: GPL-2.0-only
"""Fuzzes every reader for a while: python -m tests.fuzz --seconds 3600 [--seed 1] [--target NAME].

Prints how many inputs each reader took. Ends with 1 at the first defect of a reader, and writes the
input to build/fuzz/; the seed shows it again.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from pathlib import Path

from tests.fuzz.mutate import mutated
from tests.fuzz.reader import Target
from tests.fuzz.targets import TARGETS

_ROUND = 200
_FOUND = Path("build/fuzz")


def main() -> int:
    """Run the command line; see the module's description."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", action="append", default=[])
    words = parser.parse_args()
    targets = [each for each in TARGETS if not words.target or each.name in words.target]
    randoms = {each.name: random.Random(f"{words.seed} {each.name}") for each in targets}
    counts = dict.fromkeys(randoms, 0)
    spent_s = dict.fromkeys(randoms, 0.0)
    failed: set[str] = set()
    end_s = time.monotonic() + words.seconds
    while time.monotonic() < end_s and len(failed) < len(targets):
        # The reader that had the least time is next: a slow one does not take it from the others.
        target = min(
            (each for each in targets if each.name not in failed),
            key=lambda each: spent_s[each.name],
        )
        start_s = time.monotonic()
        if not _run(target, randoms[target.name]):
            failed.add(target.name)
        counts[target.name] += _ROUND
        spent_s[target.name] += time.monotonic() - start_s
    for name, count in counts.items():
        print(f"{name:18} {count:10} inputs in {spent_s[name]:7.1f} s")
    print(f"{'together':18} {sum(counts.values()):10} inputs, seed {words.seed}")
    return 1 if failed else 0


def _run(target: Target, source: random.Random) -> bool:
    samples = target.samples()
    for _ in range(_ROUND):
        data = mutated(source, samples)
        try:
            target.take(data)
        except Exception:  # noqa: BLE001 - each is what is looked for
            _FOUND.mkdir(parents=True, exist_ok=True)
            path = _FOUND / f"{target.name}.input"
            path.write_bytes(data)
            print(f"DEFECT in {target.name}, input in {path}:\n{traceback.format_exc()}")
            return False
    return True


if __name__ == "__main__":
    sys.exit(main())
