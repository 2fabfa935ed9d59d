"""The one error that reading a migration stream raises."""

from emu.errors import InputError


class StreamError(InputError):
    """A migration stream breaks its grammar: where, what was expected, what was found.

    `offset` counts from the first byte of the file, the libvirt header included.
    """

    def __init__(self, offset: int, message: str) -> None:
        super().__init__(f"at byte {offset:#x}: {message}")
        self.offset, self.message = offset, message
