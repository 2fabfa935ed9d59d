"""How fast does the threaded interpreter run? Millions of guest instructions a second of CPU time.

Five loops in 64-bit mode with 4-KByte pages, on the full-featured processor: segmentation, accessed
and dirty flags, dirty tracking, self-modifying code and an exact instruction budget are on. Each is
run several times; the best counts, since other work on the machine can only slow it down.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

START = time.perf_counter()

from emu.cpu.cpu import Stop  # noqa: E402
from tests.emu.cpu import machines  # noqa: E402

SLICE = 10_000_000
REPEATS = 3

# name: (what it is, machine code with its count left open, the count)
LOOPS = {
    "alu": (
        "add mov shr xor lea and sub inc xor dec jnz",
        (
            "48b8157c4a7fb979379e48c7c215cd5b07b9{count}4801d04889c348c1eb114831d8488d5490074"
            "881e3ffffff7f4829da48ffc64831f2ffc975daf4"
        ),
        12_000_000,
    ),
    "crc": (
        "CRC-32 bit by bit over 64 KByte",
        (
            "48c7c600008000b9{count}b8ffffffff0fb61e31d8ba0800000089c383e301f7db81e32083b8edd"
            "1e831d8ffca75eb48ffc64881e6ffff80004881ce00008000ffc975ccf4"
        ),
        1_000_000,
    ),
    "copy": (
        "64 KByte, two 8-byte moves an iteration",
        (
            "41b8{count}48c7c60000800048c7c700009000b900100000488b06488907488b5e0848895f08488"
            "3c6104883c710ffc975e641ffc875cef4"
        ),
        3_000,
    ),
    "sieve": (
        "Eratosthenes over 64 K bytes",
        (
            "41b9{count}48c7c70000800031c0c6040701ffc03d0000010072f3bb02000000803c1f0074138d0"
            "c1b81f9000001007308c6040f0001d9ebf0ffc381fb0001000072dd41ffc975bdf4"
        ),
        60,
    ),
    "fib": (
        "recursive: calls, pushes, returns",
        (
            "bf{count}e801000000f483ff02721b53578d7fffe8f1ffffff4889c35f83ef02e8e5ffffff4801d"
            "85bc389f8c3"
        ),
        28,
    ),
}


def run(code: str, count: int) -> float:
    """MIPS of one run."""
    cpu = machines.machine(64)
    image = bytes.fromhex(code.format(count=count.to_bytes(4, "little").hex()))
    cpu.memory.load(machines.CODE, image)
    cpu.state.rip, cpu.state.rsp = machines.CODE, machines.STACK
    start = time.process_time()
    while cpu.run(SLICE) is Stop.BUDGET:
        pass
    spent = time.process_time() - start
    if cpu.fault is not None:
        raise SystemExit(f"fault {cpu.fault.vector} at {cpu.state.rip:#x}")
    return cpu.state.retired / spent / 1e6


def main() -> None:
    """Print a line a loop."""
    machines.machine(64).memory.load(machines.CODE, b"\xf4")
    print(f"ready after {time.perf_counter() - START:.2f} s")
    product = 1.0
    for name, (what, code, count) in LOOPS.items():
        best = max(run(code, count) for _ in range(REPEATS))
        product *= best
        print(f"{name:6} {best:7.0f} MIPS  {what}")
    print(f"{'mean':6} {product ** (1 / len(LOOPS)):7.0f} MIPS  geometric")


if __name__ == "__main__":
    main()
