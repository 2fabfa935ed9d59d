import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.machine.apic_model import ApicModel
from emu.machine.lapic_registers import (
    BASE_BSP,
    BASE_EN,
    BASE_EXTD,
    IA32_APIC_BASE,
    REGISTERS,
    ApicError,
)
from emu.machine.registers import RO, RW, WO
from tests.emu.machine.parts import (
    EOI,
    INITIAL,
    LVT_TIMER,
    SVR,
    TPR,
    Apics,
    read,
    send,
    write,
)

BASE = 0xFEE0_0000
ESR, LVT_LINT0, LVT_LINT1, LVT_ERROR, LDR, DFR = 0x280, 0x350, 0x360, 0x370, 0xD0, 0xE0
SELF, ALL, OTHERS = 1 << 18, 2 << 18, 3 << 18
LOGICAL, LEVEL, ASSERT = 1 << 11, 1 << 15, 1 << 14
LOWEST, SMI, NMI, INIT, STARTUP = 1 << 8, 2 << 8, 4 << 8, 5 << 8, 6 << 8


def x2apic(apics):
    for apic in apics.apics:
        assert apic.write_msr(IA32_APIC_BASE, apic.base | BASE_EXTD)
    return apics


# registers


@pytest.mark.parametrize("row", [r for r in REGISTERS if r.xapic], ids=lambda r: r.name)
def test_xapic_register_keeps_its_writable_bits_and_no_others(row):
    """SDM Vol. 3, Local APIC Register Address Map: what reads back after all ones are written."""
    apics = Apics(model=ApicModel(cmci=True))
    apic = apics.apics[0]
    before = read(apic, row.offset)
    write(apic, row.offset, 0xFFFF_FFFF)
    kept = {
        "ICR": 0xCCFFF,
        "DFR": 0xFFFF_FFFF,
        "LVT_TIMER": 0x700FF,
        "SVR": 0x13FF,
    }.get(row.name, row.writable)
    if row.xapic is RO:
        kept = before
    elif row.name in ("EOI", "ESR"):
        kept = 0

    assert kept == read(apic, row.offset)


@pytest.mark.parametrize("offset", [0x000, 0x040, 0x0C8 & ~0xF | 0x400, 0x290, 0x3A0, 0x3F0, 0x2F0])
def test_reserved_xapic_address_is_an_illegal_register_access(offset):
    apic = Apics().apics[0]
    value = read(apic, offset)
    write(apic, ESR, 0)

    assert (0, ApicError.ILLEGAL_REGISTER) == (value, read(apic, ESR))


@pytest.mark.parametrize("size", [1, 2, 8])
def test_stores_that_are_not_32_bits_wide_are_lost(size):
    apic = Apics().apics[0]
    apic.mmio_write(TPR, size, 0x55)

    assert 0 == read(apic, TPR)


def test_loads_may_take_part_of_a_register():
    apic = Apics().apics[0]

    assert 0x05 == apic.mmio_read(0x32, 1)


@pytest.mark.parametrize(
    ("model", "version"),
    [
        (ApicModel(suppress_eoi_broadcast=False), 0x0005_0014),
        (ApicModel(cmci=True), 0x0106_0014),
    ],
)
def test_version_register_tells_the_last_lvt_entry(model, version):
    assert version == read(Apics(model=model).apics[0], 0x30)


def test_software_disable_masks_the_lvt_and_keeps_it_masked():
    apic = Apics().apics[0]
    write(apic, LVT_LINT0, 0x700)
    write(apic, SVR, 0xFF)
    write(apic, LVT_TIMER, 0x30)

    assert (0x1_0700, 0x1_0030) == (read(apic, LVT_LINT0), read(apic, LVT_TIMER))


def test_software_disabled_apic_refuses_fixed_interrupts_and_takes_nmi():
    apics = Apics(2)
    write(apics.apics[1], SVR, 0xFF)
    send(apics.apics[0], 0x40, 1)
    send(apics.apics[0], NMI, 1)

    assert (0, ["nmi"]) == (apics.apics[1].irr, apics.cores[1].arrived)


# priorities and acknowledgement


def ppr_of_the_manual(tpr, isrv):
    """SDM Vol. 3, Task and Processor Priorities, word for word."""
    if tpr >> 4 >= isrv >> 4:
        return tpr
    return isrv & 0xF0


@given(st.integers(0, 255), st.sets(st.integers(16, 255)), st.sets(st.integers(16, 255)))
def test_delivered_vector_is_the_highest_above_the_processor_priority(tpr, irr, isr):
    apic = Apics().apics[0]
    write(apic, TPR, tpr)
    apic.isr = sum(1 << v for v in isr)
    for vector in irr:
        apic.post(vector)
    ppr = ppr_of_the_manual(tpr, max(isr, default=0))
    expected = max((v for v in irr if v >> 4 > ppr >> 4), default=None)

    assert (expected, ppr) == (apic.pending_vector(), read(apic, 0xA0))


def test_acknowledge_moves_the_vector_from_irr_to_isr():
    apics = Apics()
    apic = apics.apics[0]
    apic.post(0x41)
    requested = apics.cores[0].requested
    vector = apic.acknowledge()

    assert (True, 0x41, 0, 1 << 0x41, False) == (
        requested,
        vector,
        apic.irr,
        apic.isr,
        apics.cores[0].requested,
    )


def test_acknowledge_without_request_gives_the_spurious_vector_and_no_isr_bit():
    apic = Apics().apics[0]

    assert (0xFF, 0) == (apic.acknowledge(), apic.isr)


def test_raising_tpr_withdraws_the_request_and_lowering_it_by_cr8_renews_it():
    apics = Apics()
    apic = apics.apics[0]
    apic.post(0x41)
    write(apic, TPR, 0x4F)
    held = apics.cores[0].requested
    apic.cr8 = 3

    assert (False, True, 0x30) == (held, apics.cores[0].requested, read(apic, TPR))


def test_eoi_ends_the_highest_in_service_and_lets_the_next_through():
    apics = Apics()
    apic = apics.apics[0]
    for vector in (0x41, 0x61, 0x45):
        apic.post(vector)
    first = apic.acknowledge()
    blocked = apics.cores[0].requested
    write(apic, EOI, 0)
    second = apic.acknowledge()

    assert (0x61, False, 0x45, 1 << 0x45) == (first, blocked, second, apic.isr)


@pytest.mark.parametrize("bank", [0x100, 0x180, 0x200])
def test_vector_sets_are_read_as_eight_registers(bank):
    apic = Apics().apics[0]
    for vector in (0x21, 0x5F, 0xFF):
        apic.post(vector, level=True)
    apic.isr = apic.irr
    words = {i: read(apic, bank + 16 * i) for i in range(8)}

    assert {1: 2, 2: 1 << 31, 7: 1 << 31} == {i: w for i, w in words.items() if w}


def test_edge_clears_and_level_sets_the_trigger_mode():
    apic = Apics().apics[0]
    apic.post(0x51, level=True)
    set_by_level = apic.tmr
    apic.post(0x51)

    assert (1 << 0x51, 0) == (set_by_level, apic.tmr)


class Listener:
    def __init__(self):
        self.vectors = []

    def end_of_interrupt(self, vector):
        self.vectors.append(vector)


@pytest.mark.parametrize(("svr", "heard"), [(0x1FF, [0x51]), (0x11FF, [])])
def test_eoi_of_a_level_interrupt_is_broadcast_unless_suppressed(svr, heard):
    apics = Apics()
    listener = Listener()
    apics.bus.ioapics.append(listener)
    apic = apics.apics[0]
    write(apic, SVR, svr)
    for vector, level in ((0x51, True), (0x61, False)):
        apic.post(vector, level)
        apic.acknowledge()
        write(apic, EOI, 0)

    assert heard == listener.vectors


# inter-processor interrupts


@pytest.mark.parametrize(
    ("low", "destination", "reached"),
    [
        (0, 1, [1]),
        (0, 9, []),
        (0, 0xFF, [0, 1, 2, 3]),
        (SELF, 0, [1]),
        (ALL, 0, [0, 1, 2, 3]),
        (OTHERS, 0, [0, 2, 3]),
        (LEVEL | ASSERT, 2, [2]),
    ],
)
def test_fixed_ipi_reaches_its_physical_destination(low, destination, reached):
    apics = Apics(4)
    send(apics.apics[1], low | 0x81, destination)

    assert reached == [i for i, there in enumerate(apics.pending(0x81)) if there]


@given(st.integers(0, 255), st.lists(st.integers(0, 255), min_size=3, max_size=3))
def test_logical_flat_destination_reaches_whom_a_bit_names(destination, ids):
    apics = Apics(3)
    for apic, logical in zip(apics.apics, ids, strict=True):
        write(apic, LDR, logical << 24)
    send(apics.apics[0], LOGICAL | 0x81, destination)

    assert [destination == 0xFF or bool(i & destination) for i in ids] == apics.pending(0x81)


@given(st.integers(0, 254), st.lists(st.integers(0, 255), min_size=3, max_size=3))
def test_logical_cluster_destination_needs_the_cluster_and_a_bit(destination, ids):
    apics = Apics(3)
    for apic, logical in zip(apics.apics, ids, strict=True):
        write(apic, DFR, 0x0FFF_FFFF)
        write(apic, LDR, logical << 24)
    send(apics.apics[0], LOGICAL | 0x81, destination)
    cluster, members = divmod(destination, 16)

    assert [i // 16 == cluster and i % 16 & members != 0 for i in ids] == apics.pending(0x81)


def test_lowest_priority_chooses_the_processor_with_the_lowest_priority():
    apics = Apics(3)
    for apic, tpr in zip(apics.apics, (0x80, 0x20, 0x40), strict=True):
        write(apic, TPR, tpr)
    send(apics.apics[0], LOWEST | 0x91, 0xFF)

    assert [False, True, False] == apics.pending(0x91)


def test_nmi_smi_init_and_startup_reach_the_core():
    apics = Apics(2)
    for low in (NMI, SMI, INIT | LEVEL | ASSERT, INIT | LEVEL, STARTUP | 0x9A):
        send(apics.apics[0], low, 1)

    assert ["nmi", "smi", "init", "sipi 0x9a"] == apics.cores[1].arrived


@pytest.mark.parametrize(("delivery", "name"), [(NMI, "nmi"), (INIT, "init"), (SMI, "smi")])
def test_self_shorthand_carries_what_hardware_carries(delivery, name):
    apics = Apics()
    send(apics.apics[0], SELF | delivery | 0x81)

    assert [name] == apics.cores[0].arrived


@pytest.mark.parametrize("delivery", [STARTUP, LOWEST])
def test_self_shorthand_carries_nothing_else(delivery):
    apics = Apics()
    send(apics.apics[0], SELF | delivery | 0x81)

    assert ([], 0) == (apics.cores[0].arrived, apics.apics[0].irr)


@pytest.mark.parametrize("vector", [0, 15])
def test_sending_an_illegal_vector_is_an_error_and_not_sent(vector):
    apics = Apics()
    apic = apics.apics[0]
    write(apic, LVT_ERROR, 0xE1)
    send(apic, SELF | vector)
    before = read(apic, ESR)
    write(apic, ESR, 0)

    assert (0, ApicError.SEND_ILLEGAL_VECTOR, 1 << 0xE1) == (before, read(apic, ESR), apic.irr)


def test_error_status_is_cleared_by_the_second_write():
    apic = Apics().apics[0]
    read(apic, 0x40)
    write(apic, ESR, 0)
    write(apic, ESR, 0)

    assert 0 == read(apic, ESR)


def test_message_signalled_interrupt_goes_where_its_address_says():
    apics = Apics(2)
    apics.bus.message_signalled(0xFEE0_1000, 0x0072)

    assert [False, True] == apics.pending(0x72)


# IA32_APIC_BASE

XAPIC, X2APIC, DISABLED, INVALID = BASE_EN, BASE_EN | BASE_EXTD, 0, BASE_EXTD


@pytest.mark.parametrize(
    ("before", "after", "allowed"),
    [
        (XAPIC, XAPIC, True),
        (XAPIC, X2APIC, True),
        (XAPIC, DISABLED, True),
        (XAPIC, INVALID, False),
        (X2APIC, XAPIC, False),
        (X2APIC, X2APIC, True),
        (X2APIC, DISABLED, True),
        (X2APIC, INVALID, False),
        (DISABLED, XAPIC, True),
        (DISABLED, X2APIC, False),
        (DISABLED, DISABLED, True),
        (DISABLED, INVALID, False),
    ],
)
def test_mode_changes_follow_the_x2apic_state_transitions(before, after, allowed):
    """SDM Vol. 3, x2APIC State Transitions."""
    apic = Apics().apics[0]
    apic.write_msr(IA32_APIC_BASE, BASE | before)
    done = apic.write_msr(IA32_APIC_BASE, BASE | after)

    assert (allowed, BASE | (after if allowed else before)) == (done, apic.base)


@pytest.mark.parametrize("bit", [*range(8), 9, *range(40, 64)])
def test_reserved_bit_of_the_base_is_a_general_protection_fault(bit):
    apic = Apics().apics[0]

    assert not apic.write_msr(IA32_APIC_BASE, BASE | BASE_EN | BASE_BSP | 1 << bit)


def test_x2apic_bit_is_reserved_without_x2apic():
    apic = Apics(model=ApicModel(x2apic=False)).apics[0]

    assert not apic.write_msr(IA32_APIC_BASE, BASE | X2APIC)


def test_disabled_apic_loses_its_state_and_comes_back_as_after_power_up():
    apics = Apics()
    apic = apics.apics[0]
    version = read(apic, 0x30)
    write(apic, 0x20, 0x0700_0000)
    write(apic, LVT_TIMER, 0x30)
    write(apic, INITIAL, 1000)
    apic.post(0x41)
    apic.write_msr(IA32_APIC_BASE, BASE)
    apic.cr8 = 9
    apic.write_msr(IA32_APIC_BASE, BASE | BASE_EN)

    assert (version, 0, 0xFF, 0x1_0000, 0, 0x90, None) == (
        read(apic, 0x30),
        read(apic, 0x20),
        read(apic, SVR),
        read(apic, LVT_TIMER),
        apic.irr,
        read(apic, TPR),
        apics.clock.next_event(),
    )


def test_init_keeps_base_and_identity_and_clears_the_rest():
    apic = x2apic(Apics(2)).apics[1]
    apic.post(0x41)
    apic.init_reset()

    assert (True, 1, 0, 0xFF) == (apic.x2apic, apic.read_msr(0x802), apic.irr, apic.read_msr(0x80F))


# x2APIC

READABLE = {r.msr for r in REGISTERS if r.x2apic in (RO, RW) and r.name != "LVT_CMCI"}
WRITABLE = {r.msr for r in REGISTERS if r.x2apic in (WO, RW) and r.name != "LVT_CMCI"}


@pytest.mark.parametrize("msr", range(0x800, 0x900))
def test_x2apic_msr_that_cannot_be_read_or_written_faults(msr):
    apic = x2apic(Apics()).apics[0]
    can_read = apic.read_msr(msr) is not None
    can_write = apic.write_msr(msr, 0)

    assert (msr in READABLE, msr in WRITABLE) == (can_read, can_write)


@pytest.mark.parametrize("msr", sorted(READABLE | WRITABLE))
def test_x2apic_msrs_fault_in_xapic_mode(msr):
    apic = Apics().apics[0]

    assert (None, False) == (apic.read_msr(msr), apic.write_msr(msr, 0))


@pytest.mark.parametrize(
    ("msr", "bits"),
    [
        (0x808, 0xFF),
        (0x80B, 0),
        (0x80F, 0x13FF),
        (0x828, 0),
        (0x830, 0xFFFF_FFFF_000C_DFFF),
        (0x832, 0x7_50FF),
        (0x833, 0x1_57FF),
        (0x835, 0x1_F7FF),
        (0x837, 0x1_50FF),
        (0x838, 0xFFFF_FFFF),
        (0x83E, 0xB),
        (0x83F, 0xFF),
    ],
)
def test_each_reserved_bit_of_an_x2apic_msr_faults(msr, bits):
    apic = x2apic(Apics()).apics[0]
    allowed = sum(1 << bit for bit in range(64) if apic.write_msr(msr, 1 << bit))

    assert bits == allowed


def test_x2apic_ids_and_logical_ids():
    apics = x2apic(Apics(40))

    assert (0x25, 0x0002_0020) == (
        apics.apics[0x25].read_msr(0x802),
        apics.apics[0x25].read_msr(0x80D),
    )


@pytest.mark.parametrize(
    ("low", "destination", "reached"),
    [
        (0, 0x11, [0x11]),
        (0, 0xFF, []),
        (0, 0xFFFF_FFFF, list(range(20))),
        (LOGICAL, 0x0001_0005, [0x10, 0x12]),
        (LOGICAL, 0x0000_8001, [0, 15]),
        (LOGICAL, 0x0003_FFFF, []),
    ],
)
def test_x2apic_ipi_destinations(low, destination, reached):
    apics = x2apic(Apics(20))
    apics.apics[3].write_msr(0x830, destination << 32 | low | 0x81)

    assert reached == [i for i, there in enumerate(apics.pending(0x81)) if there]


def test_self_ipi_register_interrupts_oneself():
    apics = x2apic(Apics(2))
    apics.apics[1].write_msr(0x83F, 0xF1)

    assert [False, True] == apics.pending(0xF1)


def test_x2apic_mode_has_no_memory_window():
    assert x2apic(Apics()).apics[0].address is None


# local vector table


def test_external_interrupt_by_lint0_takes_the_vector_of_the_controller():
    apics = Apics()
    apic = apics.apics[0]
    apic.intack = lambda: 0x23
    apic.pin(0, True)
    masked = apics.cores[0].requested
    write(apic, LVT_LINT0, 0x700)

    assert (False, True, 0x23, 0) == (
        masked,
        apics.cores[0].requested,
        apic.acknowledge(),
        apic.isr,
    )


def test_hardware_disabled_apic_passes_intr_and_nmi_through():
    apics = Apics()
    apic = apics.apics[0]
    apic.intack = lambda: 0x23
    apic.write_msr(IA32_APIC_BASE, BASE)
    apic.pin(0, True)
    apic.pin(1, True)

    assert (True, 0x23, ["nmi"]) == (
        apics.cores[0].requested,
        apic.acknowledge(),
        apics.cores[0].arrived,
    )


def test_level_triggered_lint_pin_repeats_until_it_falls():
    apics = Apics()
    apic = apics.apics[0]
    write(apic, LVT_LINT1, LEVEL | 0x61)
    apic.pin(1, True)
    remote = read(apic, LVT_LINT1)
    taken = []
    for level in (True, False):
        taken.append(apic.acknowledge())
        apic.pin(1, level)
        write(apic, EOI, 0)

    assert (LEVEL | 1 << 14 | 0x61, [0x61, 0x61], LEVEL | 0x61, 0) == (
        remote,
        taken,
        read(apic, LVT_LINT1),
        apic.irr,
    )


def test_performance_interrupt_masks_its_entry():
    apic = Apics().apics[0]
    write(apic, 0x340, 0x55)
    apic.performance_interrupt()

    assert (1 << 0x55, 0x1_0055) == (apic.irr, read(apic, 0x340))
