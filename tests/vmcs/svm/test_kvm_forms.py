"""What KVM carries of a VMCB: predicted from the rows, and compared with real kernels' answers."""

import struct
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vmcs.svm.facts import LAYOUT, recorded
from vmcs.svm.kvm_forms import (
    CONTROL_GROUPS,
    COPY_SIZES,
    FORMER_NAMES,
    GROUPS,
    LEGALIZED,
    SAVE_GROUPS,
    mask_of,
    spans_of,
)
from vmcs.svm.vmcb import SAVE_OFFSET, VMCB_SIZE, expand, member

HEADER_SIZE = 128
BASE, KERNELS = recorded()

WORDS = ["base", "intercept_word_5"]
# Of each recorded kernel: groups of either area, sizes, and the endings of its changes by SET.
FORMS = {
    "5.10": (WORDS, "whole", "SIZES_5_10", ("5_8",)),
    "6.1": ([*WORDS, "next_rip"], "vmrun", "SIZES_6_1", ("5_8", "5_14")),
    "6.12": ([*WORDS, "next_rip"], "vmrun", "SIZES_6_12", ("5_8", "5_14")),
    "6.18": ([*WORDS, "next_rip"], "vmrun", "SIZES_6_12", ("5_8", "5_14")),
    "7.2": (
        [*WORDS, "next_rip", "erap_ctl"],
        "vmrun",
        "SIZES_6_12",
        ("5_8", "5_14", "7_2"),
    ),
}
KERNEL = pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel["release"])


def page_given(patches):
    """The VMCB that user space handed to KVM_SET_NESTED_STATE, and the address in the header."""
    buffer = bytearray(BASE)
    for offset, width, value in patches:
        buffer[offset : offset + width] = value.to_bytes(width, "little")
    return np.frombuffer(bytes(buffer[HEADER_SIZE:]), np.uint8).copy(), bytes(buffer[8:16])


def legalize(page, endings, features):
    for row in LEGALIZED:
        if row.name.endswith(endings) and row.member != "dbgctl" and row.unless not in features:
            place = member(row.member)
            size = place.size // place.count
            start = place.offset + row.element * size
            word = int.from_bytes(page[start : start + size].tobytes(), "little")
            changed = row.of(word).to_bytes(size, "little")
            page[start : start + size] = np.frombuffer(changed, np.uint8)


def carried(kernel):
    """Masks of the bytes that come back from user space's page: control, save; the sizes."""
    control, save, size, _ = FORMS[kernel["release"]]
    sizes = next(row for row in COPY_SIZES if row.name == size)
    in_save = mask_of([save])
    in_save[SAVE_OFFSET + sizes.save :] = False
    return mask_of(control), in_save, sizes


def expected_page(kernel, page, rest):
    """What GET hands out: carried bytes of `page`, the rest of L1's save area from `rest`."""
    control, save, sizes = carried(kernel)
    legalize(page, FORMS[kernel["release"]][3], set(kernel["features"]))
    made = np.zeros(VMCB_SIZE, np.uint8)
    made[SAVE_OFFSET : SAVE_OFFSET + sizes.save] = rest[SAVE_OFFSET : SAVE_OFFSET + sizes.save]
    made[control] = page[control]
    made[save] = page[save]
    return made


def page_recorded(case):
    """The VMCB that the real kernel's KVM_GET_NESTED_STATE handed out."""
    page, _ = page_given(case["patches"])
    for offset, byte in case["changed"]:
        if offset >= HEADER_SIZE:
            page[offset - HEADER_SIZE] = byte
    return page


def fnv64(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


@KERNEL
def test_get_after_set_hands_out_the_bytes_that_the_groups_say(kernel):
    cases = [case for case in kernel["cases"] if "changed" in case]
    rest = page_recorded(cases[0])
    wrong = []
    for case in cases:
        found = page_recorded(case)
        made = expected_page(kernel, page_given(case["patches"])[0], rest)
        if not np.array_equal(made, found):
            wrong.append((case["patches"], list(np.flatnonzero(made != found))))

    assert [] == wrong
    assert 20 < len(cases)


@KERNEL
def test_get_after_set_of_one_changed_member_hashes_as_the_groups_say(kernel):
    rest = page_recorded(next(case for case in kernel["cases"] if "changed" in case))
    cases = [case for case in kernel["cases"] if "fnv64" in case]
    wrong = []
    for case in cases:
        page, address = page_given(case["patches"])
        header = struct.pack("<HHI", case["flags"], 1, HEADER_SIZE + VMCB_SIZE) + address
        made = header.ljust(HEADER_SIZE, b"\0") + expected_page(kernel, page, rest).tobytes()
        if fnv64(made) != case["fnv64"]:
            wrong.append(case["patches"])

    assert [] == wrong
    assert 100 < len(cases)


def emitted_members(release):
    groups = [group for group in CONTROL_GROUPS if group.emitted]
    return {name for group in groups for name in group.members if group.name in FORMS[release][0]}


def test_control_members_of_the_newest_kernel_are_those_that_the_facts_say_get_hands_out():
    saved = {
        row["member"] for row in LAYOUT if row["area"] == "control" and "yes" in row["saved_by_get"]
    }

    assert saved == emitted_members("7.2")


def test_control_members_that_are_kept_and_not_handed_out():
    kept = {row["member"] for row in LAYOUT if row["loaded_by_set"].startswith("cached")}
    groups = [group for group in CONTROL_GROUPS if not group.emitted]

    assert kept == {name for group in groups for name in group.members}
    assert kept.isdisjoint(emitted_members("7.2"))


def test_save_members_that_set_loads_are_those_of_the_facts():
    save = [row for row in LAYOUT if row["area"] == "save"]
    always = {row["member"] for row in save if row["loaded_by_set"] in ("yes", "no (forced 0)")}
    shadow_stack = {row["member"] for row in save if "SHSTK" in row["loaded_by_set"]}
    branches = {row["member"] for row in save if "LBRV" in row["loaded_by_set"]}

    assert always == set(GROUPS["vmrun"].members)
    assert shadow_stack == set(GROUPS["cet"].members)
    assert branches == set(GROUPS["lbr"].members)


def test_whole_save_area_is_every_byte_behind_the_control_area():
    assert ((SAVE_OFFSET, VMCB_SIZE),) == spans_of(["whole"])


def test_intercept_words_are_five_at_first_and_six_from_5_10():
    assert ((0, 20),) == tuple(span for span in GROUPS["base"].spans() if span[0] < 0x18)
    assert ((20, 24),) == GROUPS["intercept_word_5"].spans()


def test_groups_of_one_area_do_not_overlap_but_for_the_save_area_as_a_whole():
    control = np.sum([mask_of([group.name]) for group in CONTROL_GROUPS], axis=0)
    save = np.sum([mask_of([g.name]) for g in SAVE_GROUPS if g.name != "whole"], axis=0)

    assert {0, 1} == set(np.unique(save))
    assert [*range(0xC0, 0xC4)] == list(np.flatnonzero(control > 1))


@given(st.lists(st.sampled_from(sorted(GROUPS)), unique=True))
def test_spans_rise_do_not_touch_and_cover_the_members_of_their_groups(names):
    spans = spans_of(names)
    covered = np.zeros(VMCB_SIZE, np.int64)
    for start, end in spans:
        covered[start:end] += 1
    wanted = {byte for name in names for a, b in GROUPS[name].spans() for byte in range(a, b)}

    assert all(before[1] < after[0] for before, after in pairwise(spans))
    assert sorted(wanted) == list(np.flatnonzero(covered == 1))
    assert sorted(wanted) == list(np.flatnonzero(mask_of(names)))


def test_unknown_group_raises_key_error():
    with pytest.raises(KeyError):
        spans_of(["CONTROL_4_20"])


def test_sizes_of_the_c_structures_are_those_of_the_releases():
    assert [
        ("SIZES_5_8", 256, 664),
        ("SIZES_5_10", 256, 1032),
        ("SIZES_5_11", 272, 1032),
        ("SIZES_5_14", 1024, 1032),
        ("SIZES_6_1", 1024, 740),
        ("SIZES_6_12", 1024, 744),
    ] == [(row.name, row.control, row.save) for row in COPY_SIZES]


def test_sizes_end_behind_a_member_but_for_the_two_of_other_structures():
    ends = {member(name).end for name in expand(["last_excp_to", "spec_ctrl"])}
    ends |= {member("spec_ctrl").offset + 4}

    assert {SAVE_OFFSET + row.save for row in COPY_SIZES} - ends == {SAVE_OFFSET + 1032}
    assert {row.control for row in COPY_SIZES} - {SAVE_OFFSET} == {
        member("avic_physical_id").end,
        member("vmsa_pa").end,
    }


@pytest.mark.parametrize("row", LEGALIZED, ids=lambda row: row.name)
def test_change_by_set_stays_within_its_member_and_changes_something(row):
    place = member(row.member)
    every_bit = (1 << 8 * place.size // place.count) - 1

    assert (row.clear | row.set) & ~every_bit == 0
    assert row.element < place.count
    assert (every_bit & ~row.clear | row.set, row.set) == (row.of(every_bit), row.of(0))
    assert (every_bit, 0) != (row.of(every_bit), row.of(0))


@pytest.mark.parametrize("row", FORMER_NAMES, ids=lambda row: row.member)
def test_former_names_belong_to_members_of_today_that_have_another_name(row):
    assert member(row.member)
    assert (row.member,) != row.names


def test_every_row_is_cited():
    rows = [*GROUPS.values(), *COPY_SIZES, *LEGALIZED, *FORMER_NAMES]

    assert [] == [row for row in rows if not row.seen]
