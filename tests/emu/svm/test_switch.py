"""VMRUN and #VMEXIT: what is exchanged, what is refused, what is injected."""

from __future__ import annotations

import pytest

from tests.emu.svm.rig import CODE, DATA, GUEST, HANDLER, VMMCALL, Rig
from vmcs.svm.control_bits import EVENT_INJ, MiscControl
from vmcs.svm.exit_codes import SvmExit

VALID, ERROR_VALID = EVENT_INJ["V"].mask, EVENT_INJ["EV"].mask


@pytest.fixture
def rig():
    return Rig()


def test_a_guest_that_calls_leaves_with_vmmcall_and_the_host_goes_on(rig):
    code = rig.run("48c7c034120000" + VMMCALL)  # mov rax, 0x1234

    assert (SvmExit.VMMCALL, True) == (code, rig.exited)
    assert (0x1234, GUEST + 7, GUEST + 10) == tuple(rig.vmcb[n] for n in ("rax", "rip", "next_rip"))
    assert CODE + 4 == rig.state.rip
    assert not rig.svm.gif


def test_the_second_run_goes_on_where_the_first_left(rig):
    rig.run(VMMCALL + "90" + VMMCALL)
    rig.vmcb["rip"] += 3
    code = rig.run()

    assert (SvmExit.VMMCALL, GUEST + 4) == (code, rig.vmcb["rip"])


BROKEN = (
    ("efer_svme", "efer", lambda v: v & ~(1 << 12)),
    ("cr0_nw_without_cd", "cr0", lambda v: v | 1 << 29),
    ("cr0_upper_half", "cr0", lambda v: v | 1 << 32),
    ("cr3_reserved", "cr3", lambda v: v | 1 << 48),
    ("cr4_reserved", "cr4", lambda v: v | 1 << 15),
    ("dr6_upper_half", "dr6", lambda v: v | 1 << 32),
    ("dr7_upper_half", "dr7", lambda v: v | 1 << 63),
    ("efer_reserved", "efer", lambda v: v | 1 << 9),
    ("long_mode_needs_pae", "cr4", lambda v: v & ~(1 << 5)),
    ("long_mode_needs_pe", "cr0", lambda v: v & ~1),
    ("cs_l_and_d", "cs.attrib", lambda v: v | 3 << 9),
    ("msrpm_width", "msrpm_base_pa", lambda v: (1 << 48) - 0x1000),
    ("iopm_width", "iopm_base_pa", lambda v: (1 << 48) - 0x2000),
    ("event_inj_type", "event_inj", lambda v: VALID | 1 << 8),
    ("event_inj_vector", "event_inj", lambda v: VALID | 3 << 8 | 2),
    ("event_inj_br_in_64_bit_mode", "event_inj", lambda v: VALID | 3 << 8 | 5),
    ("asid_not_zero", "asid", lambda v: 0),
)


@pytest.mark.parametrize(("name", "field", "change"), BROKEN, ids=[row[0] for row in BROKEN])
def test_one_broken_rule_makes_vmrun_leave_with_invalid(rig, name, field, change):
    whole = rig.vmcb[field]
    rig.vmcb[field] = change(whole)
    code = rig.run(VMMCALL)

    assert (SvmExit.INVALID, name, True) == (code, rig.svm.refused_by, rig.exited)

    rig.vmcb[field] = whole
    rig.vmcb["event_inj"] = 0

    assert SvmExit.VMMCALL == rig.run()


def test_vmrun_must_be_intercepted(rig):
    rig.vmcb.data[16] &= ~1
    code = rig.run(VMMCALL)

    assert (SvmExit.INVALID, "vmrun_intercept") == (code, rig.svm.refused_by)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("ncr3_reserved", "nested_cr3", 1 << 50),
        ("g_pat_memory_types", "g_pat", 2),
    ],
)
def test_nested_paging_has_rules_of_its_own(rig, name, field, value):
    rig.nest()
    rig.vmcb[field] = value
    code = rig.run(VMMCALL)

    assert (SvmExit.INVALID, name) == (code, rig.svm.refused_by)


def test_virtual_nmis_need_the_nmi_intercept():
    rig = Rig("zen4")
    rig.vmcb["int_ctl"] = 1 << 26

    assert (SvmExit.INVALID, "v_nmi_needs_nmi_intercept") == (rig.run(VMMCALL), rig.svm.refused_by)

    rig.intercept("NMI")

    assert SvmExit.VMMCALL == rig.run()


def test_equal_control_areas_are_checked_once(rig):
    rig.run(VMMCALL)
    kept = dict(rig.svm.plans)
    rig.run(VMMCALL)
    rig.vmcb["asid"] = 0
    rig.run(VMMCALL)

    assert kept == rig.svm.plans
    assert 1 == len(kept)


def test_the_host_area_has_what_vmexit_loads(rig):
    rig.state.rbx = 7
    rig.run("bb0900000048c7c400000000" + VMMCALL)  # mov ebx, 9; mov rsp, 0

    assert rig.svm.host_area["rip"] == CODE + 3
    assert (9, 0) == (rig.state.rbx, rig.vmcb["rsp"])
    assert rig.state.rsp != 0


@pytest.mark.parametrize(
    ("event", "error", "vector", "frame"),
    [
        (VALID | 0 << 8 | 0x31, 0, 0x31, 0),
        (VALID | 2 << 8 | 2, 0, 2, 0),
        (VALID | 3 << 8 | 0, 0, 0, 0),
        (VALID | 3 << 8 | ERROR_VALID | 13, 0x28, 13, 1),
        (VALID | 4 << 8 | 0x40, 0, 0x40, 0),
    ],
    ids=["interrupt", "nmi", "divide error", "general protection", "INT n"],
)
def test_an_event_is_injected_before_the_first_instruction(rig, event, error, vector, frame):
    rig.vmcb["event_inj"], rig.vmcb["event_inj_err"] = event, error
    rig.vmcb["next_rip"] = GUEST + 2
    rig.intercept("HLT")
    code = rig.run(VMMCALL)
    top = rig.vmcb["rsp"]
    words = [int.from_bytes(rig.memory.read(top + 8 * i, 8), "little") for i in range(2)]
    returns = GUEST + 2 if event >> 8 & 7 == 4 else GUEST

    assert (SvmExit.HLT, HANDLER + 16 * vector) == (code, rig.vmcb["rip"])
    assert returns == words[frame]
    assert not rig.vmcb["event_inj"] & VALID
    assert not frame or error == words[0]


def test_an_intercept_during_injection_tells_of_the_event(rig):
    rig.vmcb["event_inj"] = VALID | 3 << 8 | ERROR_VALID | 13
    rig.vmcb["event_inj_err"] = 0x18
    rig.vmcb["idtr.limit"] = 13 * 16
    rig.intercept("EXCP_GP")
    code = rig.run(VMMCALL)

    assert (SvmExit.EXCP_GP, 13 * 8 + 3) == (code, rig.vmcb["exit_info_1"])
    assert VALID | 3 << 8 | ERROR_VALID | 13 == rig.vmcb["exit_int_info"]
    assert (0x18, GUEST) == (rig.vmcb["exit_int_info_err"], rig.vmcb["rip"])


def test_an_injected_event_is_not_intercepted_itself(rig):
    rig.vmcb["event_inj"] = VALID | 3 << 8 | 6
    rig.intercept("EXCP_UD", "HLT")

    assert SvmExit.HLT == rig.run(VMMCALL)


def test_interrupt_shadow_is_loaded_and_saved(rig):
    rig.vmcb["int_state"] = 1
    rig.run(VMMCALL)

    assert 1 == rig.vmcb["int_state"]

    rig.run("90" + VMMCALL)

    assert 0 == rig.vmcb["int_state"]


def test_sti_before_the_exit_leaves_a_shadow(rig):
    rig.run("fb" + VMMCALL)

    assert 1 == rig.vmcb["int_state"]


def test_the_guest_has_a_pat_of_its_own_with_nested_paging(rig):
    rig.nest()
    rig.vmcb["g_pat"] = 0x0606_0606_0606_0606
    rig.run("b9770200000f32" + VMMCALL)  # mov ecx, 0x277; rdmsr

    assert 0x0606_0606 == rig.vmcb["rax"]
    assert 0x0007_0406_0007_0406 == rig.cpu.msrs[0x277]


def test_tlb_control_and_asids_keep_translations_apart(rig):
    read = "488b0425" + DATA.to_bytes(4, "little").hex() + VMMCALL
    rig.nest()
    rig.memory.write(DATA, b"\x11")
    rig.memory.write(0xA0_0000, b"\x22")
    rig.run(read)
    rig.npt_entry(DATA, clear=0x1FF << 21, set_=0xA0_0000)
    rig.run(read)
    stale = rig.vmcb["rax"]
    rig.vmcb["asid"] = 2
    rig.run(read)
    other = rig.vmcb["rax"]
    rig.vmcb["asid"], rig.vmcb["tlb_ctl"] = 1, 3
    rig.run(read)

    assert (0x11, 0x22, 0x22) == (stale, other, rig.vmcb["rax"])


def test_trace_trap_of_the_host_comes_after_the_guest(rig):
    rig.intercept("HLT")
    rig.run(VMMCALL, "9c48810c24000100009d0f01d8f4")  # pushf; or [rsp], TF; popf; vmrun; hlt

    assert SvmExit.VMMCALL == rig.vmcb["exit_code"]
    assert HANDLER + 16 + 1 == rig.state.rip


def test_trace_trap_of_the_guest_comes_after_its_first_instruction(rig):
    rig.vmcb["rflags"] |= 0x100
    rig.intercept("EXCP_DB")
    code = rig.run("9090" + VMMCALL)

    assert (SvmExit.EXCP_DB, GUEST + 1) == (code, rig.vmcb["rip"])
    assert rig.vmcb["dr6"] & 1 << 14


def test_np_enable_without_the_feature_is_ignored(rig, monkeypatch):
    rig.nest()
    rig.vmcb["nested_cr3"] = 0x1000
    features = rig.cpu.model.features - {"NPT"}
    monkeypatch.setitem(rig.cpu.model.__dict__, "features", features)
    rig.svm.checks.__dict__.pop("constants", None)
    constants = rig.svm.checks.constants
    monkeypatch.setitem(constants, "SVM_FEATURES", constants["SVM_FEATURES"] & ~1)

    assert SvmExit.VMMCALL == rig.run(VMMCALL)
    assert MiscControl.NP_ENABLE == rig.vmcb["misc_ctl"]
