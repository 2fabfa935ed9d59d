"""Instructions on devices: compiled code that calls out, held equal to plain execution."""

from __future__ import annotations

import pytest

from emu.cpu import access

from .machines import CODE, DATA, machine

WINDOW = DATA + 0x1000  # a page without memory between two pages of RAM


class Device:
    """A device that counts up: what it gives depends on how often it was asked."""

    def __init__(self):
        self.log = []

    def read(self, offset, count):
        self.log.append(("read", offset, count))
        return bytes((len(self.log) * 16 + i) & 0xFF for i in range(count))

    def write(self, offset, data):
        self.log.append(("write", offset, data))


class BrokenDevice(Device):
    def read(self, offset, count):
        raise RuntimeError("broken")


def with_device(device):
    cpu = machine(64)
    cpu.memory.load(DATA, bytes(range(256)) * 48)
    cpu.memory.hide(WINDOW, 4096)
    cpu.memory.add_device(WINDOW, 4096, device)
    cpu.flush_tlb()
    state = cpu.state
    state.rip, state.rax, state.rbx = CODE, 0x1122334455667788, WINDOW
    state.rsi, state.rdi, state.rcx, state.rsp = WINDOW, WINDOW + 0x100, 3, WINDOW + 0x800
    return cpu


CASES = {
    "load": "48 8b 43 10",
    "byte load": "8a 43 11",
    "store": "48 89 43 10",
    "word store": "66 89 43 12",
    "read and write": "01 43 08",
    "exchange": "48 87 43 08",
    "compare and exchange": "f0 0f b1 43 20",
    "compare": "39 43 08",
    "push": "50",
    "pop": "58",
    "pop to a device": "8f 43 18",
    "push from a device": "ff 73 18",
    "string from device to device": "a4",
    "string compare": "a6",
    "repeated string": "f3 a5",
    "repeated store": "f3 48 ab",
    "vector load": "0f 10 43 10",
    "vector store": "0f 11 43 10",
    "load from RAM into the device": "48 8b 83 fc ff ff ff",
    "load from the device into RAM": "48 8b 83 fc 0f 00 00",
    "store from RAM into the device": "48 89 83 fc ff ff ff",
    "read and write from the device into RAM": "48 01 83 fc 0f 00 00",
}


def outcome(code, plain):
    device = Device()
    cpu = with_device(device)
    cpu.memory.load(CODE, bytes.fromhex(code) + b"\xf4")
    if plain:
        access.WATCHERS[cpu.state.address] = lambda *_: None
    try:
        cpu.run(1)
    finally:
        access.WATCHERS.pop(cpu.state.address, None)
    state = cpu.state
    registers = [int(state.gpr[i]) for i in range(16)] + [int(state.zmm[i]) for i in range(2)]
    around = cpu.memory.read(WINDOW - 16, 16), cpu.memory.read(WINDOW + 4096, 16)
    return device.log, registers, cpu.rflags, int(state.rip), around


@pytest.mark.parametrize("code", CASES.values(), ids=CASES)
def test_compiled_access_to_a_device_equals_plain_execution(code):
    expected = outcome(code, plain=True)

    assert [] != expected[0]
    assert expected == outcome(code, plain=False)


def test_what_a_device_raises_comes_out():
    cpu = with_device(BrokenDevice())
    cpu.memory.load(CODE, bytes.fromhex("8b 03 f4"))

    with pytest.raises(RuntimeError, match="broken"):
        cpu.run(1)
    assert 0 == cpu.state.device_reader
