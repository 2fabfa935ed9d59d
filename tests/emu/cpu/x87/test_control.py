"""The FPU's own state: pending exceptions, images in memory, MMX on the same registers."""

from __future__ import annotations

import struct

import pytest

from emu.cpu.cpu import Stop
from emu.cpu.environment import Environment
from emu.cpu.models import MODELS
from emu.cpu.paging import CR0_EM, CR0_MP, CR0_NE, CR0_TS
from emu.cpu.state import Vector
from tests.emu.cpu import machines
from tests.emu.cpu.machines import CODE, DATA, RecordingCpu

FLD1, FLDZ, FDIVP = bytes.fromhex("d9e8"), bytes.fromhex("d9ee"), bytes.fromhex("def9")
FNOP, FWAIT, FNINIT, FNCLEX = (bytes.fromhex(t) for t in ("d9d0", "9b", "dbe3", "dbe2"))
FNSTSW_AX, FLDPI, FSTP = bytes.fromhex("dfe0"), bytes.fromhex("d9eb"), bytes.fromhex("ddd8")
FNSTENV, FLDENV = bytes.fromhex("d933"), bytes.fromhex("d923")
FNSAVE, FRSTOR = bytes.fromhex("dd33"), bytes.fromhex("dd23")
FNSTCW, FLDCW = bytes.fromhex("d93b"), bytes.fromhex("d92b")
FXSAVE, FXRSTOR = bytes.fromhex("0fae03"), bytes.fromhex("0fae0b")
FADD_MEMORY = bytes.fromhex("d803")
PADDB = bytes.fromhex("0ffcc1")
EMMS = bytes.fromhex("0f77")
UNMASKED = 0x340


class Machine:
    """A processor that runs instructions one by one; the last fault is kept."""

    def __init__(self, bits: int = 64, model: str = "skylake-x") -> None:
        self.cpu: RecordingCpu = machines.machine(bits)
        self.cpu.model = MODELS[model]
        self.cpu.state.cr0 |= CR0_NE
        real = bits == 16
        self.code = machines.LOW_CODE if real else CODE
        self.data = machines.LOW_DATA if real else DATA
        self.rip = 0 if real else CODE
        self.cpu.state.rbx = 0 if real else DATA
        self.run(FNINIT)

    def run(self, *instructions: bytes) -> int:
        """The vector of the fault that ended them, or -1."""
        cpu, state = self.cpu, self.cpu.state
        for code in instructions:
            cpu.memory.load(self.code, code + b"\x90")
            state.rip = self.rip
            cpu.fault = None
            cpu.refresh()
            state.budget = state.slice = 1
            cpu.step()
            if cpu.fault is not None:
                return cpu.fault.vector
        return -1

    def divide_by_zero(self) -> None:
        """1.0 / 0.0 with every exception unmasked: it stays pending."""
        self.cpu.state.fcw = UNMASKED

        assert -1 == self.run(FLD1, FLDZ, FDIVP)

    def read(self, count: int, at: int = 0) -> bytes:
        return self.cpu.memory.read(self.data + at, count)


@pytest.mark.parametrize("code", [FNOP, FWAIT, FLD1, FLDCW, FLDENV, FRSTOR, PADDB, EMMS])
def test_a_pending_exception_comes_with_the_next_waiting_instruction(code):
    machine = Machine()
    machine.divide_by_zero()

    assert Vector.MF == machine.run(code)
    assert Vector.MF == machine.run(code)


@pytest.mark.parametrize("code", [FNSTSW_AX, FNSTCW, FNSTENV, FNSAVE, FNCLEX, FNINIT, FXSAVE])
def test_an_instruction_that_does_not_wait_ignores_pending_exceptions(code):
    machine = Machine()
    machine.divide_by_zero()

    assert -1 == machine.run(code)


@pytest.mark.parametrize("code", [FNSTENV, FNSAVE, FNCLEX, FNINIT])
def test_what_masks_or_clears_the_exception_lets_the_next_one_run(code):
    machine = Machine()
    machine.divide_by_zero()

    assert -1 == machine.run(code, FNOP, PADDB)


def test_unmasking_a_noted_exception_makes_it_pending():
    machine = Machine()
    machine.run(FLD1, FLDZ, FDIVP)
    machine.cpu.memory.load(DATA, UNMASKED.to_bytes(2, "little"))

    assert (-1, Vector.MF) == (machine.run(FLDCW), machine.run(FNOP))


@pytest.mark.parametrize("code", [FNCLEX, FNINIT, FNSTENV, FNSAVE, FXRSTOR])
def test_mmx_instructions_run_again_in_the_same_slice(code):
    machine = Machine()
    machine.run(FXSAVE)
    machine.divide_by_zero()

    assert Vector.MF == machine.run(PADDB)

    machine.cpu.memory.load(CODE, code + PADDB + b"\xf4")
    machine.cpu.state.rip = CODE
    machine.cpu.refresh()

    assert Stop.HALT == machine.cpu.run(10)
    assert 0xFF == machine.cpu.state.ftw


class WithoutIgnne(Environment):
    signalled = 0

    def floating_point_error(self) -> bool:
        self.signalled += 1
        return False


def test_without_ne_the_exception_is_signalled_and_the_processor_waits():
    machine = Machine()
    environment = machine.cpu.environment = WithoutIgnne()
    machine.divide_by_zero()
    machine.cpu.state.cr0 &= ~CR0_NE

    assert -1 == machine.run(FNOP)
    assert (1, True, CODE) == (environment.signalled, machine.cpu.halted, machine.cpu.state.rip)


def test_with_ignne_the_instruction_runs():
    machine = Machine()
    machine.divide_by_zero()
    machine.cpu.state.cr0 &= ~CR0_NE

    assert (-1, CODE + 2) == (machine.run(FNOP), machine.cpu.state.rip)


@pytest.mark.parametrize(
    ("code", "cr0", "vector"),
    [
        (FLD1, CR0_EM, Vector.NM),
        (FLD1, CR0_TS, Vector.NM),
        (FNINIT, CR0_TS, Vector.NM),
        (FNSTSW_AX, CR0_EM, Vector.NM),
        (FWAIT, CR0_TS, -1),
        (FWAIT, CR0_EM, -1),
        (FWAIT, CR0_TS | CR0_MP, Vector.NM),
    ],
)
def test_control_bits_make_the_device_unavailable(code, cr0, vector):
    machine = Machine()
    machine.cpu.state.cr0 |= cr0

    assert vector == machine.run(code)


def test_control_word_keeps_its_reserved_bits():
    machine = Machine()
    machine.cpu.memory.load(DATA, b"\xff\xff")
    machine.run(FLDCW, FNSTCW)

    assert 0x1F7F == int.from_bytes(machine.read(2), "little")


def test_environment_in_protected_mode():
    machine = Machine(model="zen3")
    machine.cpu.state.selector[1], machine.cpu.state.selector[3] = 0x33, 0x2B
    machine.run(FLD1, FLDZ, FLDPI, FADD_MEMORY, FNSTENV)
    fcw, fsw, ftw, fip, code, fdp, fds = struct.unpack("<7I", machine.read(28))

    assert (0xFFFF037F, 0xFFFF0000 | 5 << 11, 0xFFFF13FF) == (fcw, fsw & ~0x3F, ftw)
    assert (CODE, 0x33, DATA, 0xFFFF002B) == (fip, code & 0xFFFF, fdp, fds)
    assert 0x003 == code >> 16


def test_environment_in_real_mode_has_linear_addresses():
    machine = Machine(16)
    machine.run(FLD1, bytes.fromhex("d807"), bytes.fromhex("d937"))  # FADD [BX]; FNSTENV [BX]
    words = struct.unpack("<7H", machine.read(14))

    assert (machines.LOW_CODE & 0xFFFF, machines.LOW_CODE >> 4 & 0xF000) == words[3:5]
    assert (machines.LOW_DATA & 0xFFFF, machines.LOW_DATA >> 4 & 0xF000) == words[5:7]


@pytest.mark.parametrize("prefix", [b"", b"\x66"])
def test_what_is_saved_is_restored(prefix):
    machine = Machine()
    machine.run(FLD1, FLDPI, FLDZ, prefix + FNSAVE)
    saved = machine.read(94 if prefix else 108)
    machine.run(FLDPI, FLDPI, prefix + FRSTOR)
    state = machine.cpu.state

    assert (5, 0b11100000) == (state.fsw >> 11 & 7, state.ftw)
    assert [0, 0x4000, 0x3FFF] == [state.st_exponent[i] for i in (5, 6, 7)]

    machine.run(prefix + FNSAVE)

    assert saved == machine.read(len(saved))


def test_saving_initialises_and_initialising_keeps_registers():
    machine = Machine()
    machine.run(FLDPI, FNSAVE)
    state = machine.cpu.state

    assert (0x37F, 0, 0) == (state.fcw, state.fsw, state.ftw)
    assert 0xC90FDAA22168C235 == state.st_mantissa[7]


def test_extended_state_image_holds_the_stack_in_order():
    machine = Machine()
    machine.run(FLD1, FLDPI, FXSAVE)
    first, second = machine.read(10, 32), machine.read(10, 48)
    machine.run(FNINIT, FXRSTOR)

    assert (0x4000, 0x3FFF) == (first[8] | first[9] << 8, second[8] | second[9] << 8)
    assert (6, 0xC0) == (machine.cpu.state.fsw >> 11 & 7, machine.cpu.state.ftw)


def test_mmx_instructions_tag_every_register_and_emms_frees_them():
    machine = Machine()
    machine.run(FLD1, PADDB)
    state = machine.cpu.state

    assert (0xFF, 0, 0xFFFF) == (state.ftw, state.fsw >> 11 & 7, state.st_exponent[0])

    machine.run(EMMS)

    assert 0 == state.ftw


@pytest.mark.parametrize(("model", "fop"), [("zen3", 0x1E8), ("skylake-x", 0)])
def test_the_opcode_is_kept_by_vendor(model, fop):
    # SDM Vol. 1, Fopcode Compatibility Sub-mode: Intel's keep it for unmasked exceptions alone
    machine = Machine(model=model)
    machine.run(FLD1)

    assert fop == machine.cpu.state.fop


def test_memory_faults_leave_the_stack_as_it_was():
    machine = Machine()
    machine.run(FLD1)
    machine.cpu.state.rbx = machines.MEMORY
    before = machine.cpu.state.fsw, machine.cpu.state.ftw

    assert Vector.PF == machine.run(bytes.fromhex("d91b"))  # FSTP dword [RBX]
    assert Vector.PF == machine.run(bytes.fromhex("d903"))  # FLD dword [RBX]
    assert before == (machine.cpu.state.fsw, machine.cpu.state.ftw)
