"""Guest code that every emulator runs: five loops in 64-bit mode with 4-KByte pages.

A loop is a subroutine at 0x400000. It reads its count from an immediate, keeps to the megabytes
around 0x800000 for data and returns. For emulators that are whole machines a boot sector takes them
to 64-bit mode, calls the loop and ends the machine.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from emu.guests.assembler import assemble, link

CODE, STACK = 0x400000, 0x300000


class Loop(NamedTuple):
    """A loop: machine code with four bytes of count left open."""

    name: str
    what: str
    code: str

    def subroutine(self, count: int) -> bytes:
        """The loop with its count."""
        return bytes.fromhex(self.code.format(count=count.to_bytes(4, "little").hex()))


LOOPS = (
    Loop(
        "alu",
        "add mov shr xor lea and sub inc xor dec jnz",
        "48b8157c4a7fb979379e48c7c215cd5b07b9{count}4801d04889c348c1eb114831d8488d5490074881e3ffff"
        "ff7f4829da48ffc64831f2ffc975dac3",
    ),
    Loop(
        "crc",
        "CRC-32 bit by bit over 64 KByte",
        "48c7c600008000b9{count}b8ffffffff0fb61e31d8ba0800000089c383e301f7db81e32083b8edd1e831d8ff"
        "ca75eb48ffc64881e6ffff80004881ce00008000ffc975ccc3",
    ),
    # source and target are no multiple of a MByte apart: no emulator's TLB has them in one place
    Loop(
        "copy",
        "64 KByte, two 8-byte moves an iteration",
        "41b8{count}48c7c60000800048c7c700509200b900100000488b06488907488b5e0848895f084883c6104883"
        "c710ffc975e641ffc875cec3",
    ),
    Loop(
        "sieve",
        "Eratosthenes over 64 K bytes",
        "41b9{count}48c7c70000800031c0c6040701ffc03d0000010072f3bb02000000803c1f0074138d0c1b81f900"
        "0001007308c6040f0001d9ebf0ffc381fb0001000072dd41ffc975bdc3",
    ),
    Loop(
        "fib",
        "recursive: calls, pushes, returns",
        "bf{count}e801000000c383ff02721b53578d7fffe8f1ffffff4889c35f83ef02e8e5ffffff4801d85bc389f8"
        "c3",
    ),
)

BOOT = """
.code16
start:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %ss
    inb $0x92, %al          # the A20 line
    orb $2, %al
    andb $0xfe, %al
    outb %al, $0x92
    movw $0x1000, %bx       # tables from 0x10000 on: one to one, 16 MByte in 4-KByte pages
    movw %bx, %es
    xorw %di, %di
    xorw %ax, %ax
    movw $0xb000, %cx
    cld
    rep stosb
    movl $0x11007, %es:0
    movl $0x12007, %es:0x1000
    movl $0x13007, %eax
    movw $0x2000, %di
    movw $8, %cx
    call entries
    movl $7, %eax
    movw $0x3000, %di
    movw $4096, %cx
    call entries
    movl $0x10000, %eax
    movl %eax, %cr3
    movl $0x220, %eax
    movl %eax, %cr4
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x100, %eax
    wrmsr
    lgdt gdtr
    movl %cr0, %eax
    orl $0x80000001, %eax
    movl %eax, %cr0
    ljmpl $8, $long
entries:
    movl %eax, %es:(%di)
    addl $0x1000, %eax
    addw $8, %di
    loop entries
    ret
.balign 8
gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
gdtr:
    .word 23
    .long gdt
.code64
long:
    movl $16, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl $0x300000, %esp
    leaq body(%rip), %rsi
    movl $0x400000, %edi
    movl $end - body, %ecx
    rep movsb
    movl $0x400000, %eax
    call *%rax
    movw $0xf4, %dx         # QEMU's isa-debug-exit
    outb %al, %dx
    leaq word(%rip), %rsi   # Bochs ends when it reads this word at port 0x8900
    movl $8, %ecx
    movw $0x8900, %dx
    rep outsb
halt:
    hlt
    jmp halt
word:
    .ascii "Shutdown"
body:
    .byte BODY
end:
.org 510
    .word 0xaa55
"""


@functools.cache
def boot_sector(code: bytes) -> bytes:
    """A boot sector that calls `code` in 64-bit mode, then ends the machine."""
    return link(assemble(BOOT.replace("BODY", ", ".join(map(str, code)))), 0x7C00)
