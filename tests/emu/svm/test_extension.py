"""The instructions and MSRs of SVM outside a guest, and what resets leave of them."""

from __future__ import annotations

import pytest

from emu.cpu.errors import Fault
from emu.cpu.state import Vector
from emu.cpu.system.msrs import Refused, read_msr, write_msr
from emu.svm import instructions
from emu.svm.extension import INDEX, LOCK, SVMDIS
from tests.emu.svm.rig import DATA, HSAVE, VMCB, VMMCALL, Rig
from vmcs.svm.exit_codes import SvmExit
from vmcs.svm.msrs import TSC_RATIO_RESET

EFER, SVME = 0xC000_0080, 1 << 12
OPCODES = {
    "VMRUN": "0f01d8",
    "VMLOAD": "0f01da",
    "VMSAVE": "0f01db",
    "STGI": "0f01dc",
    "CLGI": "0f01dd",
    "INVLPGA": "0f01df",
    "SKINIT": "0f01de",
}


@pytest.fixture
def rig():
    return Rig()


def raised(rig, code, monkeypatch):
    """The exception that host code raises first; None when it comes to its HLT."""
    faults = []

    def stop(fault):
        faults.append(fault)
        raise fault

    monkeypatch.setattr(rig.cpu, "raised", stop)
    try:
        rig.run(VMMCALL, code + "f4")
    except Fault:
        return faults[0].vector, faults[0].error
    return None


def test_the_table_has_every_instruction():
    assert {*OPCODES, "VMMCALL"} == set(instructions.TABLE)


@pytest.mark.parametrize("name", [name for name in OPCODES if name != "SKINIT"])
def test_without_svme_they_are_undefined_but_stgi_for_a_loader(rig, name, monkeypatch):
    rig.state.efer &= ~SVME
    expected = None if name == "STGI" else (Vector.UD, None)

    assert expected == raised(rig, OPCODES[name], monkeypatch)


@pytest.mark.parametrize("name", OPCODES)
def test_above_cpl_0_they_are_protected(rig, name, monkeypatch):
    rig.state.cpl = 3
    rig.state.segment_rights[1] |= 3 << 5
    rig.cpu.refresh()

    assert (Vector.GP, 0) == raised(rig, OPCODES[name], monkeypatch)


def test_vmmcall_is_for_an_intercept(rig, monkeypatch):
    assert (Vector.UD, None) == raised(rig, VMMCALL, monkeypatch)


@pytest.mark.parametrize("name", ["VMRUN", "VMLOAD", "VMSAVE"])
@pytest.mark.parametrize("address", [VMCB + 8, 1 << 48])
def test_a_vmcb_is_a_page_of_physical_memory(rig, name, address, monkeypatch):
    load = "48b8" + address.to_bytes(8, "little").hex()

    assert (Vector.GP, 0) == raised(rig, load + OPCODES[name], monkeypatch)


def test_vmsave_and_vmload_carry_what_vmrun_leaves(rig):
    state = rig.state
    state.star, state.lstar, state.kernel_gs_base = 0x1234, 0xFFFF_8000_0000_1000, 0x5678
    state.segment_base[4] = 0x7000
    rig.run(VMMCALL, "b800008000" + OPCODES["VMSAVE"] + "f4")  # mov eax, DATA
    state.star = state.lstar = state.kernel_gs_base = state.segment_base[4] = 0
    rig.run(VMMCALL, "b800008000" + OPCODES["VMLOAD"] + "f4")

    assert (0x1234, 0xFFFF_8000_0000_1000) == (state.star, state.lstar)
    assert (0x5678, 0x7000) == (state.kernel_gs_base, state.segment_base[4])
    assert 0x1234 == int.from_bytes(rig.memory.read(DATA + 0x600, 8), "little")


def test_virtualized_vmsave_goes_through_the_nested_tables(rig):
    rig.nest()
    rig.vmcb["misc_ctl2"] = 2
    rig.state.star = 0x77
    rig.npt_entry(DATA, clear=0x1FF << 21, set_=0xA0_0000)
    code = rig.run("b800008000" + OPCODES["VMSAVE"] + VMMCALL)
    rig.npt_entry(DATA, clear=1)
    rig.vmcb["tlb_ctl"] = 1
    refused = rig.run("b800008000" + OPCODES["VMSAVE"] + VMMCALL)

    assert (SvmExit.VMMCALL, SvmExit.NPF) == (code, refused)
    assert 0x77 == int.from_bytes(rig.memory.read(0xA0_0600, 8), "little")


def test_invlpga_forgets_the_pages_of_another_asid(rig):
    read = "488b0425" + DATA.to_bytes(4, "little").hex() + VMMCALL
    rig.nest()
    rig.memory.write(0xA0_0000, b"\x22")
    rig.run(read)
    rig.npt_entry(DATA, clear=0x1FF << 21, set_=0xA0_0000)
    rig.run(read, "b901000000b800008000" + OPCODES["INVLPGA"] + "b8000060000f01d8f4")

    assert 0x22 == rig.vmcb["rax"]


def test_skinit_begins_at_the_loader_in_flat_protected_mode(rig):
    loader = 0x90_0000
    rig.memory.write(loader, b"\x10\x00\x00\x10")
    rig.memory.write(loader + 0x10, b"\xf4")
    rig.run(VMMCALL, "b8" + (loader | 0x1234).to_bytes(4, "little").hex() + OPCODES["SKINIT"])
    state = rig.state

    assert (loader, loader + 0x1_0000, loader + 0x11) == (state.rax, state.rsp, state.rip)
    assert (1, 0, 32, False) == (state.cr0 & 1, state.efer, rig.cpu.mode.bits, rig.svm.gif)
    assert 7 == read_msr(rig.cpu, INDEX["VM_CR"])


# MSRs


@pytest.mark.parametrize(
    ("name", "value", "refused"),
    [
        ("VM_CR", 7, False),
        ("VM_CR", 1 << 5, True),
        ("VM_CR", SVMDIS, True),  # EFER.SVME is set
        ("VM_HSAVE_PA", DATA, False),
        ("VM_HSAVE_PA", DATA + 8, True),
        ("VM_HSAVE_PA", 1 << 48, True),
        ("TSC_RATIO", 0xFF_FFFF_FFFF, False),
        ("TSC_RATIO", 1 << 40, True),
    ],
)
def test_reserved_bits_of_msrs(rig, name, value, refused):
    if refused:
        with pytest.raises(Refused):
            write_msr(rig.cpu, INDEX[name], value)
    else:
        write_msr(rig.cpu, INDEX[name], value)

        assert value == read_msr(rig.cpu, INDEX[name])


def test_a_lock_keeps_svm_off_until_the_key_comes_again(rig):
    cpu = rig.cpu
    rig.state.efer &= ~SVME
    write_msr(cpu, INDEX["SVM_KEY"], 0x1234)
    write_msr(cpu, INDEX["VM_CR"], LOCK | SVMDIS)
    write_msr(cpu, INDEX["VM_CR"], 0)
    locked = read_msr(cpu, INDEX["VM_CR"])
    with pytest.raises(Refused):
        write_msr(cpu, EFER, int(rig.state.efer) | SVME)
    write_msr(cpu, INDEX["SVM_KEY"], 0x1234)
    write_msr(cpu, INDEX["VM_CR"], 0)
    write_msr(cpu, EFER, int(rig.state.efer) | SVME)

    assert LOCK | SVMDIS == locked
    assert rig.state.efer & SVME
    assert 0 == read_msr(cpu, INDEX["SVM_KEY"])


def test_init_leaves_the_guest_and_keeps_the_msrs(rig):
    rig.nest()
    rig.vmcb["g_pat"] = 0x0606_0606_0606_0606
    rig.run("f4")
    inside = rig.cpu.guest is not None
    rig.cpu.init_reset()

    assert (True, None, True) == (inside, rig.cpu.guest, rig.svm.gif)
    assert (HSAVE, 0) == (rig.svm.hsave_pa, rig.state.second_level)
    assert 0x0007_0406_0007_0406 == read_msr(rig.cpu, 0x277)


def test_reset_clears_the_msrs(rig):
    write_msr(rig.cpu, INDEX["TSC_RATIO"], 5)
    rig.cpu.reset()

    assert (0, TSC_RATIO_RESET) == (rig.svm.hsave_pa, rig.svm.tsc_ratio)


class Host:
    """A host in Python."""

    def __init__(self):
        self.codes = []

    def exited(self, svm):
        self.codes.append(svm.block["exit_code"])
        if len(self.codes) < 3:
            svm.block["rip"] += 3
            svm.cpu.next_rip = 0
            svm.run(svm.block)


def test_a_monitor_gets_the_exits_and_enters_again(rig):
    host = rig.svm.monitor = Host()
    rig.run(VMMCALL + VMMCALL + VMMCALL + VMMCALL)

    assert [SvmExit.VMMCALL] * 3 == host.codes
    assert rig.cpu.guest is None
    assert bytes(4096) == bytes(rig.svm.host_area.data)
