"""What KVM_SET_NESTED_STATE leaves behind, and what KVM_GET_NESTED_STATE hands out again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.errors import KvmError
from emu.kvm.control_registers import CR0, CR4, EFER
from emu.releases import RELEASES
from tests.emu.kvm.svm_support import (
    ALL64,
    GIF_SET,
    GUEST_MODE,
    PLACES,
    RUN_PENDING,
    SIZE,
    SVM_RELEASES,
    base_blob,
    get,
    host,
    make_vcpu,
    patched,
    put,
    with_features,
)
from vmcs.svm.vmcb import member

HEADER, SAVE = 128, 128 + 0x400
TWO_BLOCKS = [name for name in SVM_RELEASES if RELEASES[name].does("svm_two_blocks")]
QUIRK_NESTED_SVM_SHARED_PAT = 1 << 11
KVM_CAP_DISABLE_QUIRKS2 = 213


def field(blob, name):
    row = member(name)
    return int.from_bytes(blob[HEADER + row.offset : HEADER + row.end], "little")


def with_members(blob, **members):
    for name, value in members.items():
        row = member(name.replace("__", "."))
        blob[HEADER + row.offset : HEADER + row.end] = value.to_bytes(row.size, "little")
    return blob


def state_of(vcpu):
    """All that the two ioctls and the registers show of a vCPU."""
    return vcpu.get_nested_state(), vcpu.get_sregs(), vcpu.get_regs(), vcpu.get_vcpu_events()


@pytest.mark.parametrize("release", SVM_RELEASES)
def test_a_fresh_vcpu_has_only_gif(release):
    blob = make_vcpu(release).get_nested_state()

    assert 128 == len(blob)
    assert (GIF_SET, 1, 128) == (get(blob, "FLAGS"), get(blob, "FORMAT"), get(blob, "SIZE"))
    assert not any(blob[8:])


@pytest.mark.parametrize("release", SVM_RELEASES)
def test_get_after_set_of_what_get_gave_is_a_fixed_point(release):
    vcpu = make_vcpu(release)
    vcpu.set_nested_state(base_blob())
    first = vcpu.get_nested_state()
    vcpu.set_nested_state(first)

    assert first == vcpu.get_nested_state()


@pytest.mark.parametrize("release", SVM_RELEASES)
def test_size_too_small_for_the_header_gives_the_size_of_the_header(release):
    vcpu = make_vcpu(release)
    vcpu.set_nested_state(base_blob())
    buffer = bytearray(SIZE)
    buffer[4:8] = (127).to_bytes(4, "little")
    with pytest.raises(KvmError) as refusal:
        vcpu.get_nested_state_into(buffer)

    assert "nested_state_fits" == refusal.value.rule
    assert (128).to_bytes(4, "little") == buffer[4:8]
    assert not any(buffer[:4])
    assert not any(buffer[8:])


@pytest.mark.parametrize("release", SVM_RELEASES)
def test_in_guest_mode_all_is_written_before_the_size_is_found_too_small(release):
    vcpu = make_vcpu(release)
    vcpu.set_nested_state(base_blob())
    buffer = bytearray(SIZE)
    buffer[4:8] = (128).to_bytes(4, "little")
    with pytest.raises(KvmError):
        vcpu.get_nested_state_into(buffer)

    assert vcpu.get_nested_state() == bytes(buffer)


@pytest.mark.parametrize(
    ("release", "without_gif"),
    [("5.8", 0), ("5.9", 0), ("5.10", GIF_SET), ("5.10.262", GIF_SET), ("5.12", GIF_SET)]
    + [(name, 0) for name in TWO_BLOCKS],
)
def test_gif_in_guest_mode(release, without_gif):
    """From 5.10 to 5.12 SET does not restore GIF in guest mode."""
    vcpu = make_vcpu(release)
    vcpu.set_nested_state(patched(FLAGS=GUEST_MODE))

    assert without_gif == get(vcpu.get_nested_state(), "FLAGS") & GIF_SET


@pytest.mark.parametrize("release", SVM_RELEASES)
def test_run_pending_is_restored_from_5_11_on(release):
    vcpu = make_vcpu(release)
    vcpu.set_nested_state(patched(FLAGS=GUEST_MODE | RUN_PENDING | GIF_SET))
    restored = RUN_PENDING if RELEASES[release].has("svm_rules", "set_run_pending") else 0

    assert restored == get(vcpu.get_nested_state(), "FLAGS") & RUN_PENDING
    assert bool(restored) == (release not in ("5.8", "5.9", "5.10", "5.10.262"))


@pytest.mark.parametrize("release", SVM_RELEASES)
def test_l1_without_guest_mode_leaves_l2(release):
    vcpu = make_vcpu(release)
    vcpu.set_nested_state(base_blob())
    vcpu.set_nested_state(patched(FLAGS=0))

    assert not vcpu.operations.in_guest_mode
    assert (0, 128) == tuple(get(vcpu.get_nested_state(), name) for name in ("FLAGS", "SIZE"))


@pytest.mark.parametrize("release", SVM_RELEASES)
def test_clearing_svme_leaves_l2_and_sets_gif(release):
    vcpu = make_vcpu(release)
    vcpu.set_nested_state(patched(FLAGS=GUEST_MODE))
    done = vcpu.set_msrs([(0xC000_0080, EFER.LME | EFER.LMA)])

    assert 1 == done
    assert not vcpu.operations.in_guest_mode
    assert GIF_SET == get(vcpu.get_nested_state(), "FLAGS")


@pytest.mark.parametrize(("release", "gif"), [("6.19", GIF_SET), ("7.0", 0), ("7.3", 0)])
def test_clearing_svme_outside_l2_sets_gif_until_6_19(release, gif):
    vcpu = make_vcpu(release)
    vcpu.set_nested_state(patched(FLAGS=0))
    vcpu.set_msrs([(0xC000_0080, EFER.LME | EFER.LMA)])

    assert gif == get(vcpu.get_nested_state(), "FLAGS")


@pytest.mark.parametrize("release", TWO_BLOCKS)
def test_registers_that_user_space_set_become_those_of_l2(release):
    vcpu = make_vcpu(release)
    vcpu.operations.set_segment("fs", vcpu.get_sregs().ds)
    before = vcpu.get_sregs()
    vcpu.set_nested_state(with_members(base_blob(), cs__base=0x1234_5000, gdtr__limit=0x77))

    assert before == vcpu.get_sregs()

    vcpu.set_nested_state(patched(FLAGS=GIF_SET))

    assert 0x1234_5000 == vcpu.get_sregs().cs.base
    assert 0x77 == vcpu.get_sregs().gdt.limit


def test_with_one_block_leaving_l2_keeps_the_registers_of_l2():
    vcpu = make_vcpu("5.10")
    before = vcpu.get_sregs()
    vcpu.set_nested_state(with_members(base_blob(), cs__base=0x1234_5000))
    vcpu.set_nested_state(patched(FLAGS=GIF_SET))

    assert before == vcpu.get_sregs()


@pytest.mark.parametrize("release", SVM_RELEASES)
def test_vmrun_state_is_loaded_and_the_rest_of_the_save_area_is_what_the_vcpu_had(release):
    vcpu = make_vcpu(release)
    vcpu.set_msrs([(0xC000_0082, 0xFFFF_8000_0000_1000)])
    blob = with_members(base_blob(), lstar=0x7777, rax=0x1111, cpl=3, rflags=0, dr6=0xFFFF_0FF1)
    vcpu.set_nested_state(blob)
    back = vcpu.get_nested_state()
    whole = RELEASES[release].has("svm_save", "whole")

    assert 0x1111 == field(back, "rax")
    assert (0x7777 if whole else 0xFFFF_8000_0000_1000) == field(back, "lstar")
    assert (3 if whole else 0) == field(back, "cpl")
    assert (0 if whole else 2) == field(back, "rflags")


@pytest.mark.parametrize(
    ("release", "members"),
    [
        ("5.8", ()),
        ("5.19", ()),
        ("6.0", ("next_rip",)),
        ("6.19", ("next_rip",)),
        ("7.0", ("next_rip", "erap_ctl")),
        ("7.3", ("next_rip", "erap_ctl")),
    ],
)
def test_members_that_get_hands_out_besides_the_first(release, members):
    held = {"next_rip": 0x40_0000, "erap_ctl": 1, "clean": 0x5, "insn_len": 2, "vmsa_pa": 0x3000}
    vcpu = make_vcpu(release)
    vcpu.set_nested_state(with_members(base_blob(), **held))
    back = vcpu.get_nested_state()

    assert set(members) == {name for name in held if field(back, name)}


def test_the_sixth_intercept_word_travels_from_5_10_on():
    blob = base_blob()
    blob[HEADER + 20] = 4
    kept = {}
    for release in ("5.9", "5.10"):
        vcpu = make_vcpu(release)
        vcpu.set_nested_state(blob)
        kept[release] = vcpu.get_nested_state()[HEADER + 20]

    assert {"5.9": 0, "5.10": 4} == kept


def test_controls_of_features_that_the_guest_lacks_are_dropped_from_7_0_on():
    """INVPCID and RDPRU are no features of the host; RDTSCP is one."""
    blob = base_blob()
    words = (1 << 0 | 1 << 7 | 1 << 14, 1 << 2)
    blob[HEADER + 16 : HEADER + 24] = words[0].to_bytes(4, "little") + words[1].to_bytes(
        4, "little"
    )
    kept = {}
    for release in ("6.19", "7.0"):
        vcpu = make_vcpu(release)
        vcpu.set_nested_state(blob)
        back = vcpu.get_nested_state()
        kept[release] = back[HEADER + 16 : HEADER + 24]

    assert blob[HEADER + 16 : HEADER + 24] == kept["6.19"]
    assert (1 << 0 | 1 << 7).to_bytes(8, "little") == kept["7.0"]


def test_undefined_control_bits_are_dropped_from_7_1_on():
    held = {"event_inj": 0x0000_1F00, "int_vector": 0x1FF, "int_state": 3, "tlb_ctl": 0xF3}
    kept = {}
    for release in ("7.0", "7.1"):
        vcpu = make_vcpu(release)
        vcpu.set_nested_state(with_members(base_blob(), **held))
        kept[release] = {name: field(vcpu.get_nested_state(), name) for name in held}

    assert held == kept["7.0"]
    assert {"event_inj": 0xF00, "int_vector": 0xFF, "int_state": 1, "tlb_ctl": 3} == kept["7.1"]


def test_nested_paging_is_dropped_from_7_1_on_where_the_guest_has_none():
    kept = {}
    for release in ("7.0", "7.1"):
        vcpu = make_vcpu(release)
        supported = vcpu.host.cpuid
        vcpu.set_cpuid2(supported.cleared(0x8000_000A, 0, 3, 1))
        vcpu.set_nested_state(patched(MISC_CTL=1))
        kept[release] = field(vcpu.get_nested_state(), "misc_ctl")

    assert {"7.0": 1, "7.1": 0} == kept


@pytest.mark.parametrize(
    ("release", "loaded"), [("6.17", ()), ("6.18", ("s_cet", "ssp", "isst_addr"))]
)
def test_shadow_stack_state_is_loaded_from_6_18_on_where_kvm_has_it(release, loaded):
    held = {"s_cet": 1, "ssp": 0x8000, "isst_addr": 0x9000}
    vcpu = make_vcpu(release, with_features(host(), "SHSTK"))
    vcpu.set_nested_state(with_members(base_blob(), **held))
    back = vcpu.get_nested_state()

    assert set(loaded) == {name for name in held if field(back, name)}


@pytest.mark.parametrize("release", ["6.12", "6.12.115", "7.0", "7.1", "7.3"])
def test_last_branch_state_is_loaded_where_kvm_has_lbr_virtualization(release):
    held = {"br_from": 0x1000, "br_to": 0x2000, "last_excp_from": 0x3000, "last_excp_to": 0x4000}
    for features in ((), ("LBRV",)):
        vcpu = make_vcpu(release, with_features(host(), *features))
        vcpu.set_nested_state(with_members(base_blob(), **held, dbgctl=0x43))
        back = vcpu.get_nested_state()
        loads = bool(features) and release in ("6.12.115", "7.1", "7.3")

        assert (held if loads else dict.fromkeys(held, 0)) == {n: field(back, n) for n in held}
        assert (1 if loads else 0) == field(back, "dbgctl")


class TestPatOfItsOwn:
    """From 7.2 on user space can give L2 a PAT of its own, by disabling a quirk."""

    GPAT = 0x0606_0606_0606_0606

    def made(self, release, *, own):
        vcpu = make_vcpu(release)
        if own:
            vcpu.vm.enable_cap(KVM_CAP_DISABLE_QUIRKS2, QUIRK_NESTED_SVM_SHARED_PAT)
        return vcpu

    @pytest.mark.parametrize("release", ["7.2", "7.3"])
    def test_it_travels_in_the_header_under_nested_paging(self, release):
        vcpu = self.made(release, own=True)
        vcpu.set_nested_state(patched(MISC_CTL=1, GPAT=self.GPAT))

        assert self.GPAT == get(vcpu.get_nested_state(), "GPAT")

    def test_without_nested_paging_the_header_has_none(self):
        vcpu = self.made("7.2", own=True)
        vcpu.set_nested_state(patched(MISC_CTL=0, GPAT=self.GPAT))

        assert 0 == get(vcpu.get_nested_state(), "GPAT")

    @pytest.mark.parametrize(("release", "own"), [("7.2", False), ("7.1", False), ("7.1", True)])
    def test_with_the_quirk_or_on_older_kernels_it_is_dropped(self, release, own):
        vcpu = make_vcpu(release)
        if own:
            vcpu.vm.disabled_quirks |= QUIRK_NESTED_SVM_SHARED_PAT
        vcpu.set_nested_state(patched(MISC_CTL=1, GPAT=self.GPAT))

        assert 0 == get(vcpu.get_nested_state(), "GPAT")

    def test_a_pat_that_is_none_is_refused(self):
        vcpu = self.made("7.2", own=True)
        with pytest.raises(KvmError) as refusal:
            vcpu.set_nested_state(patched(MISC_CTL=1, GPAT=2))

        assert "gpat_types" == refusal.value.rule

    def test_writing_the_pat_of_l1_leaves_that_of_l2(self):
        vcpu = self.made("7.2", own=True)
        vcpu.set_nested_state(patched(MISC_CTL=1, GPAT=self.GPAT))
        vcpu.set_msrs([(0x277, 0x0505_0505_0505_0505)])
        back = vcpu.get_nested_state()

        assert self.GPAT == get(back, "GPAT")
        assert 0x0505_0505_0505_0505 == field(back, "g_pat")


@pytest.mark.parametrize("release", ["5.17", "6.12", "7.3"])
def test_an_l2_cr3_beyond_the_width_is_refused_when_l2_is_already_entered(release):
    vcpu = make_vcpu(release)
    vcpu.load_control_registers(CR0.PE | CR0.ET, 1 << 52, CR4.PAE, EFER.SVME)
    with pytest.raises(KvmError) as refusal:
        vcpu.set_nested_state(base_blob())

    assert "vcpu_cr3_width_after_entry" == refusal.value.rule
    assert vcpu.operations.in_guest_mode
    assert not vcpu.operations.nested.pages_requested


@pytest.mark.parametrize("release", ["5.13", "5.16"])
def test_before_5_17_that_refusal_changes_nothing(release):
    vcpu = make_vcpu(release)
    vcpu.load_control_registers(CR0.PE | CR0.ET, 1 << 52, CR4.PAE, EFER.SVME)
    before = state_of(vcpu)
    with pytest.raises(KvmError) as refusal:
        vcpu.set_nested_state(base_blob())

    assert "vcpu_cr3_width" == refusal.value.rule
    assert before == state_of(vcpu)


def test_5_9_refuses_an_unreadable_msr_bitmap_after_it_has_entered_l2():
    vcpu = make_vcpu("5.9")
    blob = with_members(base_blob(), msrpm_base_pa=1 << 30)
    blob[HEADER + 15] |= 0x10
    with pytest.raises(KvmError) as refusal:
        vcpu.set_nested_state(blob)

    assert "msrpm_in_memory" == refusal.value.rule
    assert vcpu.operations.in_guest_mode

    assert 0 == make_vcpu("5.8").set_nested_state(blob)


WORD = st.sampled_from(sorted(PLACES))
VALUE = st.one_of(
    st.sampled_from([0, 1, 2, 0xFFF, 0x1000, 1 << 31, 1 << 40, 1 << 63, ALL64, 0x80050033]),
    st.integers(0, ALL64),
)
PATCHES = st.lists(st.tuples(WORD, VALUE), max_size=4)
CHANGES_BEFORE_REFUSING = {"vcpu_cr3_width_after_entry", "msrpm_in_memory"}


@given(st.sampled_from(SVM_RELEASES), PATCHES, PATCHES)
def test_a_refused_set_changes_nothing_and_an_accepted_one_can_be_repeated(release, first, second):
    vcpu = make_vcpu(release, memory=1 << 20)
    for patches in (first, second):
        blob = base_blob()
        for name, value in patches:
            put(blob, name, value)
        before, rule = state_of(vcpu), ""
        try:
            vcpu.set_nested_state(bytes(blob))
        except KvmError as refusal:
            rule = refusal.rule
        if rule:
            assert before == state_of(vcpu) or rule in CHANGES_BEFORE_REFUSING
            continue
        after = vcpu.get_nested_state()
        vcpu.set_nested_state(after)

        assert after == vcpu.get_nested_state()


VMRUN_STATE = ("cr0", "cr3", "cr4", "efer", "rflags", "rip", "rsp", "rax", "cs.base", "ss.attrib")


def test_there_and_back_over_every_ordered_pair_of_releases():
    """Of legal state, no kernel loses the controls of L2 or what #VMEXIT needs of L1."""
    vcpus = {name: make_vcpu(name) for name in SVM_RELEASES}
    lossy = []
    for old, source in vcpus.items():
        source.set_nested_state(base_blob())
        saved = source.get_nested_state()
        for new, destination in vcpus.items():
            destination.set_nested_state(saved)
            source.set_nested_state(destination.get_nested_state())
            back = source.get_nested_state()
            same = all(field(saved, name) == field(back, name) for name in VMRUN_STATE)
            if not same or saved[:SAVE] != back[:SAVE]:
                lossy.append((old, new))

    assert [] == lossy


@given(st.sampled_from(SVM_RELEASES), st.sampled_from(SVM_RELEASES), PATCHES)
def test_what_a_second_move_there_and_back_loses_the_first_has_lost(old, new, patches):
    blob = base_blob()
    for name, value in patches:
        put(blob, name, value)
    source, destination = make_vcpu(old, memory=1 << 20), make_vcpu(new, memory=1 << 20)

    def there_and_back(state):
        destination.set_nested_state(state)
        source.set_nested_state(destination.get_nested_state())
        return source.get_nested_state()

    try:
        source.set_nested_state(bytes(blob))
        once = there_and_back(source.get_nested_state())
    except KvmError:
        return

    assert once == there_and_back(once)
