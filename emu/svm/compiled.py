"""The machine code of `emu.svm.transfer`."""

from __future__ import annotations

import functools
from pathlib import Path

from emu.cpu.compiler.cache import digest
from emu.cpu.compiler.callables import Call, callables
from emu.cpu.program import source_digest
from emu.cpu.state import CPU, UOP
from emu.svm import transfer

ROOTS = (
    *("load_guest", "save_guest", "save_exit", "load_host", "save_host"),
    *("vmload", "vmsave"),
)


@functools.cache
def transfers() -> dict[str, Call]:
    """The functions of `transfer` by name: of the state's address and a VMCB's host address."""
    key = digest([source_digest(), Path(transfer.__file__).read_bytes()])
    return callables("svm", [getattr(transfer, name) for name in ROOTS], CPU, UOP, key)
