"""Guests of a few instructions: 32-bit code behind a Multiboot header."""

from __future__ import annotations

from tests.emu.machine.images import CODE, OUTPUT, STATUS, multiboot_elf

ENDLESS = bytes.fromhex("ebfe")  # jmp $
TALKATIVE = bytes.fromhex(
    "66baf803 b02e ee"  # mov dx, 3f8h; mov al, "."; out dx, al
    "ebfd"  # jmp back to out
)
POLLING = bytes.fromhex(
    "66bafd03 ec a801 74f7"  # until LSR.DR: in al, 3fdh
    "66baf803 ec ee"  # echo the byte
    "3c71 75ed"  # again unless it is "q"
    "b005 e6f4"  # exit status: out 0xf4, 5
)
# own GDT and IDT, IRQ 4 on vector 24H, IER and OUT2; writes ">" and halts with interrupts on;
# the handler echoes the byte and leaves at "q" as above
LISTENING = bytes.fromhex(
    "66906690bc004010000f0115a8001000ea23001000080066b810008ed08e"
    "d80f011dae001000b011e620b020e621b004e621b001e621b0efe621b87d"
    "00100066a320611000c705226110000800008ec1c01066a32661100066ba"
    "f903b001ee66bafc03b00beeb03e66baf803eefbf4ebfd66baf803ecee3c"
    "717504b005e6f4b020e620cf0000000000000000ffff0000009bcf00ffff"
    "00000093cf00170090001000ff0700601000"
)
QUIT_STATUS = 11
GUESTS = {
    "long mode": CODE,
    "endless": ENDLESS,
    "talkative": TALKATIVE,
    "polling": POLLING,
    "listening": LISTENING,
}

__all__ = ["GUESTS", "OUTPUT", "QUIT_STATUS", "STATUS", "write"]


def write(folder, name):
    """The image of a guest as a file in `folder`."""
    path = folder / f"{name}.elf"
    path.write_bytes(multiboot_elf(GUESTS[name]))
    return str(path)
