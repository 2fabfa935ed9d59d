"""What plain Python raises while it runs an instruction."""

from __future__ import annotations

from emu.cpu.state import NO_ERROR_CODE


class Fault(Exception):  # noqa: N818 - the manual's word
    """The instruction is given up with an exception.

    `address` is what goes to CR2 for #PF, and for #DB the causes that go to DR6.
    """

    def __init__(self, vector: int, error: int = NO_ERROR_CODE, address: int | None = None) -> None:
        super().__init__(f"vector {int(vector)}")
        self.vector = int(vector)
        self.error = None if error == NO_ERROR_CODE else int(error)
        self.address = address


class TripleFault(Exception):  # noqa: N818 - the manual's word
    """An exception while delivering #DF: the processor shuts down."""


class NotImplementedInstruction(Exception):  # noqa: N818 - names what happened
    """An instruction that has no semantics here; never a wrong result instead."""

    def __init__(self, rip: int, text: str, data: bytes) -> None:
        super().__init__(f"not implemented: {text} at RIP {rip:#x} ({data.hex(' ')})")
        self.rip = rip
        self.text = text


class GuestExit(Exception):  # noqa: N818 - names what happened
    """The processor leaves guest mode; the extension has recorded why."""
