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
# guests that do silly things
TRIPLE_FAULT = bytes.fromhex("0f0b")  # ud2, without an IDT
NOWHERE = bytes.fromhex("b8000000e0 ffe0")  # jmp to E0000000H, where there is nothing
ON_A_DEVICE = bytes.fromhex("b80000e0fe ffe0")  # jmp into the local APIC
IN_ROM = bytes.fromhex("b800ff0f00 ffe0")  # jmp into the firmware
# an instruction that crosses into the next page is called and has its operand there shifted,
# three times: 1 + 10H + 100H; then both pages are written over. Exit status 1
SELF_MODIFYING = bytes.fromhex(
    "bffeff1f0031dbc605feff1f0081c605ffff1f00c3c70500002000010000"
    "00c60504002000c3bc00001800b903000000ffd7c1250000200004e2f5c7"
    "05feff1f0090909090c60502002000c3ffd789d8d1e83588000000e6f4"
)
# own GDT and IDT, a stack where there is nothing; the handler of #UD is a UD2
STORM = bytes.fromhex(
    "66906690bc000000c00f011560001000b84100100066a330601000c70532"
    "6010000800008ec1c01066a3366010000f011d660010000f0b8d74260090"
    "0000000000000000ffff0000009bcf00ffff00000093cf00170048001000"
    "ff0700601000"
)
QUIT_STATUS = 11
GUESTS = {
    "long mode": CODE,
    "endless": ENDLESS,
    "talkative": TALKATIVE,
    "polling": POLLING,
    "listening": LISTENING,
    "triple fault": TRIPLE_FAULT,
    "nowhere": NOWHERE,
    "on a device": ON_A_DEVICE,
    "in ROM": IN_ROM,
    "self-modifying": SELF_MODIFYING,
    "storm": STORM,
}

__all__ = ["GUESTS", "OUTPUT", "QUIT_STATUS", "STATUS", "write"]


def write(folder, name):
    """The image of a guest as a file in `folder`."""
    path = folder / f"{name}.elf"
    path.write_bytes(multiboot_elf(GUESTS[name]))
    return str(path)
