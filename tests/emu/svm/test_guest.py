"""Intercepts: which instruction leaves the guest, with what code and information."""

from __future__ import annotations

import pytest

from emu.svm.exits import IOIO_SIZES
from tests.emu.svm.rig import DATA, GUEST, HANDLER, IOPM, MSRPM, VMMCALL, Rig
from vmcs.svm.control_bits import INT_CTL
from vmcs.svm.exit_codes import SvmExit
from vmcs.svm.exit_info import IOIO, MOV_CR, NESTED_PAGE_FAULT
from vmcs.svm.msrs import msrpm_bit

V_IRQ, V_GIF, V_TPR = INT_CTL["V_IRQ"].mask, INT_CTL["V_GIF"].mask, INT_CTL["V_TPR"].mask
V_GIF_ENABLE, V_NMI_ENABLE = INT_CTL["V_GIF_ENABLE"].mask, INT_CTL["V_NMI_ENABLE"].mask
V_NMI, V_NMI_MASK = INT_CTL["V_NMI"].mask, INT_CTL["V_NMI_MASK"].mask
V_INTR_MASKING, PRIORITY = INT_CTL["V_INTR_MASKING"].mask, INT_CTL["V_INTR_PRIO"]
HOST_IRQ, VIRTUAL_IRQ = 0x55, 0xF1
MOV = MOV_CR["MOV_CR"].mask


@pytest.fixture
def rig():
    return Rig()


INSTRUCTIONS = (
    ("CPUID", "0fa2"),
    ("HLT", "f4"),
    ("INVD", "0f08"),
    ("WBINVD", "0f09"),
    ("RDTSC", "0f31"),
    ("RDTSCP", "0f01f9"),
    ("RDPMC", "0f33"),
    ("RDPRU", "0f01fd"),
    ("PAUSE", "f390"),
    ("PUSHF", "9c"),
    ("POPF", "9d"),
    ("IRET", "48cf"),
    ("RSM", "0faa"),
    ("MONITOR", "31c90f01c8"),
    ("MWAIT", "31c90f01c9"),
    ("ICEBP", "f1"),
    ("STORE_GDTR", "0f0100"),
    ("STORE_IDTR", "0f0108"),
    ("LOAD_GDTR", "0f0110"),
    ("LOAD_IDTR", "0f0118"),
    ("STORE_LDTR", "0f00c0"),
    ("STORE_TR", "0f00c8"),
    ("LOAD_LDTR", "0f00d0"),
    ("LOAD_TR", "0f00d8"),
    ("INVPCID", "660f388200"),
    ("VMLOAD", "0f01da"),
    ("VMSAVE", "0f01db"),
    ("STGI", "0f01dc"),
    ("CLGI", "0f01dd"),
    ("SKINIT", "0f01de"),
    ("INVLPGA", "0f01df"),
    ("VMRUN", "0f01d8"),
)


@pytest.mark.parametrize(("name", "code"), INSTRUCTIONS, ids=[row[0] for row in INSTRUCTIONS])
def test_an_intercepted_instruction_leaves_before_its_effect(rig, name, code):
    rig.intercept(name)
    exit_code = rig.run(code + VMMCALL)
    names = {"STORE_": "_READ", "LOAD_": "_WRITE"}
    for prefix, suffix in names.items():
        if name.startswith(prefix):
            name = name.removeprefix(prefix) + suffix
    length = len(bytes.fromhex(code))
    start = GUEST + (2 if code.startswith("31c9") else 0)

    assert (SvmExit[name], start) == (exit_code, rig.vmcb["rip"])
    assert GUEST + length == rig.vmcb["next_rip"]
    assert (0, 0) == (rig.vmcb["exit_info_1"], rig.vmcb["exit_info_2"])


@pytest.mark.parametrize("code", ["0fa2", "0f31", "f390", "9c9d", "0f0100", "0f09"])
def test_without_the_intercept_the_guest_goes_on(rig, code):
    assert SvmExit.VMMCALL == rig.run("b800008000" + code + VMMCALL)  # mov eax, DATA


@pytest.mark.parametrize(
    ("name", "code", "info"),
    [
        ("CR0_READ", "410f20c3", MOV | 11),
        ("CR0_READ", "0f01e3", 0),  # smsw ebx
        ("CR3_READ", "0f20db", MOV | 3),
        ("CR0_WRITE", "0f22c3", MOV | 3),
        ("CR0_WRITE", "0f06", 0),  # clts
        ("CR0_WRITE", "0f01f3", 0),  # lmsw bx
        ("CR3_WRITE", "0f22dd", MOV | 5),
        ("CR4_WRITE", "0f22e2", MOV | 2),
        ("CR8_WRITE", "440f22c2", MOV | 2),
        ("CR8_READ", "440f20c2", MOV | 2),
        ("DR0_READ", "0f21c3", 3),
        ("DR4_READ", "0f21e3", 3),
        ("DR7_WRITE", "0f23f9", 1),
    ],
)
def test_accesses_to_control_and_debug_registers_tell_the_general_register(rig, name, code, info):
    rig.intercept(name)

    assert (SvmExit[name], info) == (rig.run(code + VMMCALL), rig.vmcb["exit_info_1"])


@pytest.mark.parametrize(
    ("code", "leaves"),
    [
        ("0f20c04883c8020f22c0", False),  # MP alone
        ("0f20c0480d000000400f22c0", True),  # CD
        ("66b803000f01f0", True),  # lmsw
        ("0f06", False),  # clts
    ],
)
def test_selective_intercept_of_cr0_writes(rig, code, leaves):
    rig.intercept("SELECTIVE_CR0")
    expected = SvmExit.CR0_SEL_WRITE if leaves else SvmExit.VMMCALL

    assert expected == rig.run(code + VMMCALL)


def test_the_full_intercept_comes_before_the_selective_one(rig):
    rig.intercept("SELECTIVE_CR0", "CR0_WRITE")

    assert SvmExit.CR0_WRITE == rig.run("0f20c0480d000000400f22c0" + VMMCALL)


@pytest.mark.parametrize(
    ("code", "port", "size", "flags"),
    [
        ("e460", 0x60, 1, IOIO["TYPE"].mask),
        ("66ed", 0x1234, 2, IOIO["TYPE"].mask),
        ("ef", 0x1234, 4, 0),
        ("6e", 0x1234, 1, IOIO["STR"].mask | IOIO["A64"].mask | 3 << IOIO["SEG"].low),
        ("f36d", 0x1234, 4, 13 | IOIO["A64"].mask),
    ],
)
def test_ports_by_the_permissions_map(rig, code, port, size, flags):
    rig.intercept("IOIO_PROT")
    setup = "66ba3412b901000000be00008000bf00008000"  # dx, ecx 1, esi and edi DATA
    before = rig.run(setup + code + VMMCALL)
    rig.memory.write(IOPM + port // 8, bytes([1 << port % 8]))
    rig.vmcb["rip"] = GUEST
    after = rig.run()
    info = port << 16 | IOIO_SIZES[size] | flags

    assert (SvmExit.VMMCALL, SvmExit.IOIO) == (before, after)
    assert (info, rig.vmcb["rip"] + len(code) // 2) == (
        rig.vmcb["exit_info_1"],
        rig.vmcb["exit_info_2"],
    )


def test_a_wide_access_is_intercepted_by_any_of_its_ports(rig):
    rig.intercept("IOIO_PROT")
    rig.memory.write(IOPM + 8192, b"\x04")

    assert SvmExit.IOIO == rig.run("66baffffed" + VMMCALL)  # dword at FFFFH


@pytest.mark.parametrize("index", [0x10, 0xC000_0080, 0xC001_0010])
@pytest.mark.parametrize("writes", [0, 1])
def test_msrs_by_the_permissions_map(rig, index, writes):
    rig.intercept("MSR_PROT")
    place = msrpm_bit(index) + writes
    rig.memory.write(MSRPM + place // 8, bytes([1 << place % 8]))
    load = "b9" + index.to_bytes(4, "little").hex()
    other = rig.run(load + "0f32" + VMMCALL) if writes else None
    code = rig.run(load + ("0f30" if writes else "0f32") + VMMCALL)

    assert (SvmExit.MSR, writes) == (code, rig.vmcb["exit_info_1"])
    assert other in (None, SvmExit.VMMCALL)


def test_msrs_outside_the_map_are_always_intercepted(rig):
    rig.intercept("MSR_PROT")

    assert SvmExit.MSR == rig.run("b9000000c10f32" + VMMCALL)


def test_software_interrupts_and_invlpg_tell_what_they_name(rig):
    rig.intercept("INTN", "INVLPG")

    assert (SvmExit.SWINT, 0x40) == (rig.run("cd40"), rig.vmcb["exit_info_1"])

    code = rig.run("b8000080000f0138")

    assert (SvmExit.INVLPG, DATA) == (code, rig.vmcb["exit_info_1"])


@pytest.mark.parametrize(
    ("name", "code", "info1", "info2"),
    [
        ("EXCP_UD", "0f0b", 0, 0),
        ("EXCP_DE", "31c9f7f1", 0, 0),
        ("EXCP_BP", "cc", 0, 0),
        ("EXCP_GP", "48b800000000000080008a00", 0, 0),
        ("EXCP_PF", "b8000000408a00", 0, 0x4000_0000),
        ("EXCP_PF", "b8000000408800", 2, 0x4000_0000),
    ],
)
def test_exceptions_are_intercepted_before_delivery(rig, name, code, info1, info2):
    rig.intercept(name)
    exit_code = rig.run(code)
    cr2 = rig.vmcb["cr2"]

    assert (SvmExit[name], info1, info2) == (
        exit_code,
        rig.vmcb["exit_info_1"],
        rig.vmcb["exit_info_2"],
    )
    assert (0, 0) == (cr2, rig.vmcb["exit_int_info"])


def test_an_exception_that_is_not_intercepted_is_the_guests(rig):
    rig.intercept("HLT")

    assert (SvmExit.HLT, HANDLER + 16 * 6) == (rig.run("0f0b"), rig.vmcb["rip"])


def test_a_debug_exception_has_written_dr6_before_the_exit(rig):
    rig.intercept("EXCP_DB")
    rig.vmcb["dr7"] = 0x2400  # general detect
    code = rig.run("0f21c0")

    assert (SvmExit.EXCP_DB, 1 << 13) == (code, rig.vmcb["dr6"] & 1 << 13)


def test_shutdown_is_intercepted_or_stops_the_processor(rig):
    rig.intercept("SHUTDOWN")
    rig.vmcb["idtr.limit"] = 0

    assert SvmExit.SHUTDOWN == rig.run("0f0b")

    rig.vmcb.data[15] &= 0x7F
    rig.run("0f0b")

    assert rig.stop.name == "SHUTDOWN"


# nested paging


@pytest.mark.parametrize(
    ("code", "clear", "set_", "info"),
    [
        ("8a042500008000", 1, 0, 0x1_0000_0004),
        ("8a042500008000", 4, 0, 0x1_0000_0005),
        ("88042500008000", 2, 0, 0x1_0000_0007),
        ("88042500008000", 0, 1 << 50, 0x1_0000_000F),
        ("8a042500008000", 0, 1 << 14, 0x1_0000_000D),
    ],
)
def test_nested_page_faults_tell_the_access_and_the_address(rig, code, clear, set_, info):
    rig.nest()
    rig.npt_entry(DATA, clear, set_)
    exit_code = rig.run(code + VMMCALL)

    assert (SvmExit.NPF, info, DATA) == (
        exit_code,
        rig.vmcb["exit_info_1"],
        rig.vmcb["exit_info_2"],
    )
    assert bytes.fromhex(code + VMMCALL) == bytes(rig.vmcb.data[0xD1 : 0xD1 + len(code) // 2 + 3])
    assert 15 == rig.vmcb["insn_len"]


def test_a_fetch_fault_has_no_bytes_and_tells_of_the_fetch(rig):
    rig.nest()
    rig.npt_entry(DATA, set_=1 << 63)
    code = rig.run("e9fbff2f00")  # jmp DATA

    assert (SvmExit.NPF, 0x1_0000_0015, 0) == (
        code,
        rig.vmcb["exit_info_1"],
        rig.vmcb["insn_len"],
    )


def test_the_guests_page_tables_are_walked_as_user_writes(rig):
    rig.nest()
    rig.npt_entry(0, clear=2)
    code = rig.run(VMMCALL)
    table = NESTED_PAGE_FAULT["TABLE"].mask

    assert (SvmExit.NPF, table | 7) == (code, rig.vmcb["exit_info_1"])


def test_guest_mode_execute_trap_keeps_the_supervisor_off_user_pages(rig):
    rig.nest()
    rig.npt_entry(GUEST, clear=4)
    before = rig.run(VMMCALL)
    rig.vmcb["misc_ctl"] |= 1 << 3
    rig.vmcb["tlb_ctl"] = 1
    allowed = rig.run(VMMCALL)
    rig.npt_entry(GUEST, set_=4)
    trapped = rig.run(VMMCALL)

    assert (SvmExit.NPF, SvmExit.VMMCALL, SvmExit.NPF) == (before, allowed, trapped)


# interrupts, virtual and physical


def pend(rig, vector=HOST_IRQ):
    """An external interrupt is requested until it is acknowledged."""
    cpu = rig.cpu
    rig.acknowledged = 0

    def acknowledge():
        rig.acknowledged += 1
        cpu.interrupt_pending = False
        cpu.update_pending()
        return vector

    cpu.acknowledge, cpu.interrupt_pending = acknowledge, True
    cpu.update_pending()


def test_a_physical_interrupt_is_intercepted_and_not_acknowledged(rig):
    rig.intercept("INTR")
    rig.vmcb["rflags"] |= 0x200
    pend(rig)
    code = rig.run("90" + VMMCALL)

    assert (SvmExit.INTR, GUEST, 0) == (code, rig.vmcb["rip"], rig.acknowledged)


def test_without_the_intercept_the_guest_takes_it(rig):
    rig.vmcb["rflags"] |= 0x200
    rig.intercept("HLT")
    pend(rig)

    assert (SvmExit.HLT, 1) == (rig.run("90"), rig.acknowledged)
    assert HANDLER + 16 * HOST_IRQ == rig.vmcb["rip"]


@pytest.mark.parametrize(("host_flag", "leaves"), [("fb", True), ("fa", False)])
def test_with_masking_virtualized_the_hosts_flag_decides(rig, host_flag, leaves):
    rig.intercept("INTR")
    rig.vmcb["int_ctl"] = V_INTR_MASKING
    pend(rig)
    # sti or cli; vmrun; hlt
    code = rig.run("9090" + VMMCALL, host_flag + "0f01d8f4", gif=False)

    assert (SvmExit.INTR if leaves else SvmExit.VMMCALL) == code


def test_a_virtual_interrupt_waits_for_the_guests_flag_and_is_taken_once(rig):
    rig.intercept("HLT")
    rig.vmcb["int_ctl"] = V_IRQ | PRIORITY.placed(15)
    rig.vmcb["int_vector"] = VIRTUAL_IRQ
    waiting = rig.run("90" + VMMCALL), rig.vmcb["int_ctl"] & V_IRQ
    taken = rig.run("fb9090" + VMMCALL), rig.vmcb["int_ctl"] & V_IRQ

    assert ((SvmExit.VMMCALL, V_IRQ), (SvmExit.HLT, 0)) == (waiting, taken)
    assert HANDLER + 16 * VIRTUAL_IRQ == rig.vmcb["rip"]


def test_a_virtual_interrupt_can_be_intercepted(rig):
    rig.intercept("VINTR")
    rig.vmcb["int_ctl"] = V_IRQ | PRIORITY.placed(15)

    assert (SvmExit.VINTR, GUEST + 2) == (rig.run("fb90" + VMMCALL), rig.vmcb["rip"])


@pytest.mark.parametrize(("priority", "ignores", "taken"), [(8, 0, 0), (11, 0, 1), (1, 1, 1)])
def test_a_virtual_interrupt_needs_a_priority_above_v_tpr(rig, priority, ignores, taken):
    rig.intercept("VINTR")
    ignored = INT_CTL["V_IGN_TPR"].placed(ignores)
    rig.vmcb["int_ctl"] = V_IRQ | PRIORITY.placed(priority) | 10 | ignored | V_INTR_MASKING
    expected = SvmExit.VINTR if taken else SvmExit.VMMCALL

    assert expected == rig.run("fb90" + VMMCALL)


def test_cr8_is_v_tpr_with_masking_virtualized(rig):
    rig.vmcb["int_ctl"] = V_INTR_MASKING | 5
    rig.run("440f20c0b907000000440f22c1" + VMMCALL)  # mov rax, cr8; mov ecx, 7; mov cr8, rcx

    assert (5, 7) == (rig.vmcb["rax"], rig.vmcb["int_ctl"] & V_TPR)


def test_stgi_and_clgi_write_the_virtual_flag_where_there_is_one(rig):
    rig.vmcb["int_ctl"] = V_GIF_ENABLE
    rig.run("0f01dc" + VMMCALL)
    on = rig.vmcb["int_ctl"]
    rig.run("0f01dd" + VMMCALL)

    assert (V_GIF_ENABLE | V_GIF, V_GIF_ENABLE) == (on, rig.vmcb["int_ctl"])


def test_virtual_interrupts_wait_for_the_virtual_flag(rig):
    rig.intercept("VINTR")
    rig.vmcb["int_ctl"] = V_GIF_ENABLE | V_IRQ | PRIORITY.placed(15)

    assert SvmExit.VMMCALL == rig.run("fb9090" + VMMCALL)
    assert (SvmExit.VINTR, GUEST + 6) == (rig.run("fb90900f01dc90" + VMMCALL), rig.vmcb["rip"])


def test_nmis_are_intercepted_and_stay_pending(rig):
    rig.intercept("NMI")
    rig.cpu.nmi_pending = True
    rig.cpu.update_pending()
    code = rig.run("90" + VMMCALL, gif=False)

    assert (SvmExit.NMI, True) == (code, rig.cpu.nmi_pending)


def test_nothing_is_taken_while_gif_is_clear(rig):
    pend(rig)
    rig.cpu.nmi_pending = True
    rig.cpu.update_pending()
    rig.run(VMMCALL, "fb90909090f4", gif=False)  # sti; nops; hlt
    clear = rig.acknowledged, rig.cpu.nmi_pending, rig.state.rip
    rig.run(VMMCALL, "0f01dc90f4", gif=False)  # stgi

    assert (0, True) == clear[:2]
    assert HANDLER + 16 * 2 + 1 == rig.state.rip


def test_a_virtual_nmi_is_delivered_masked_and_unmasked_by_iret():
    rig = Rig("zen4")
    rig.intercept("NMI", "HLT")
    rig.vmcb["int_ctl"] = V_NMI_ENABLE | V_NMI
    code = rig.run(VMMCALL)
    control = rig.vmcb["int_ctl"]
    rig.memory.write(HANDLER + 32, bytes.fromhex("48cf"))
    rig.vmcb["rip"] = HANDLER + 32
    again = rig.run()

    assert (SvmExit.HLT, V_NMI_ENABLE | V_NMI_MASK) == (code, control)
    assert (SvmExit.VMMCALL, V_NMI_ENABLE) == (again, rig.vmcb["int_ctl"])


def test_init_is_intercepted_and_stays_pending(rig):
    rig.intercept("INIT")
    rig.cpu.init_pending = True
    rig.cpu.update_pending()
    code = rig.run("90" + VMMCALL, gif=False)

    assert (SvmExit.INIT, True) == (code, rig.cpu.init_pending)


def test_smi_is_intercepted_as_external(rig):
    rig.intercept("SMI")
    rig.cpu.smm.pending = True
    rig.cpu.update_pending()
    code = rig.run("90" + VMMCALL, gif=False)

    assert (SvmExit.SMI, 1) == (code, rig.vmcb["exit_info_1"])


def test_a_halted_guest_leaves_for_an_interrupt(rig):
    rig.intercept("INTR")
    rig.vmcb["int_ctl"] = V_INTR_MASKING
    rig.run("f4", "fb0f01d8f4", gif=False)
    waits = rig.cpu.guest is not None, rig.cpu.halted
    pend(rig)
    rig.stop = rig.cpu.run(100)

    assert (True, True) == waits
    assert (SvmExit.INTR, GUEST + 1) == (rig.vmcb["exit_code"], rig.vmcb["rip"])


# time


def test_the_tsc_is_scaled_and_offset(rig):
    rig.svm.write_msr(0xC000_0104, 3 << 32)
    rig.vmcb["tsc_offset"] = 1 << 40
    rig.run("0f3148c1e2204809d0" + VMMCALL)  # rdtsc; rax := edx:eax
    value = rig.vmcb["rax"] - (1 << 40)

    assert (0, True) == (value % 3, 0 < value < 300)


@pytest.mark.parametrize(
    ("count", "pauses", "leaves"), [(0, 1, True), (3, 3, False), (3, 4, True), (9, 3, False)]
)
def test_the_pause_filter_lets_so_many_pass(rig, count, pauses, leaves):
    rig.intercept("PAUSE")
    rig.vmcb["pause_filter_count"] = count
    expected = SvmExit.PAUSE if leaves else SvmExit.VMMCALL

    assert expected == rig.run("f390" * pauses + VMMCALL)


@pytest.mark.parametrize(("threshold", "leaves"), [(1000, True), (20, False)])
def test_pauses_far_apart_are_counted_anew(rig, threshold, leaves):
    rig.intercept("PAUSE")
    rig.vmcb["pause_filter_count"], rig.vmcb["pause_filter_thresh"] = 2, threshold
    code = rig.run("f390f390" + "90" * 100 + "f390f390" + VMMCALL)

    assert (SvmExit.PAUSE if leaves else SvmExit.VMMCALL) == code
