"""Field groups: sizes counted in the kernel's functions, and fields that the layouts have."""

import pytest

from vmcs.batch import (
    GROUPS,
    SVM_GROUPS,
    VMCB,
    VMCS,
    VMCS12,
    VMX_GROUPS,
    FieldGroup,
    VmcbBatch,
    VmcsBatch,
    group_named,
)

# Assignments counted in each function of Linux 6.12, a segment register as its four members.
COUNTED = {
    "EARLY_EVENT": 4,
    "RARE_SEGMENTS": 36,
    "RARE_SYSTEM": 4,
    "RARE_EOI": 4,
    "SYNC_STATE": 7,
    "SYNC_RARE": 35,
    "CONTROL_CACHE": 6 + 19,
    "SAVE_CACHE": 10,
    "PREPARE_CONTROL": 4,
    "PREPARE_SEGMENTS": 17,
    "PREPARE_TABLES": 8,
    "VMEXIT_STATE": 26,
    "VMEXIT_VCPU": 10,
    "VMEXIT_CONTROL": 4,
    "VMLOAD": 24,
    "VMRUN_STATE": 31,
}


@pytest.mark.parametrize("name", COUNTED)
def test_a_group_has_as_many_fields_as_the_function_copies(name):
    assert COUNTED[name] == len(group_named(name))


@pytest.mark.parametrize("group", VMX_GROUPS, ids=lambda group: group.name)
def test_vmx_groups_are_fields_of_both_structures(group):
    assert set(group) <= set(VMCS12.names) & set(VMCS.names)


@pytest.mark.parametrize("group", SVM_GROUPS, ids=lambda group: group.name)
def test_svm_groups_are_members_of_the_vmcb(group):
    assert set(group) <= set(VMCB.names)


@pytest.mark.parametrize("group", GROUPS.values(), ids=lambda group: group.name)
def test_a_group_says_where_it_was_seen(group):
    assert group.seen.startswith("arch/x86/kvm/")
    assert group.seen.rpartition(", ")[2] in ("5.10", "6.12", "7.3")


def test_all_of_l2_that_entry_loads_rarely_is_read_back():
    """What prepare_vmcs02_rare writes of the segments, the two halves of the sync read."""
    written = set(group_named("RARE_SEGMENTS"))
    read = set(group_named("SYNC_RARE")) | set(group_named("SYNC_STATE"))

    assert written <= read
    assert {"GUEST_CS_AR_BYTES", "GUEST_SS_AR_BYTES"} == written - set(group_named("SYNC_RARE"))


def test_no_field_is_copied_and_computed_by_one_function():
    for groups in (VMX_GROUPS, SVM_GROUPS):
        merged = {
            (field, group.seen)
            for group in groups
            if group.name.endswith("MERGED")
            for field in group
        }
        copied = {
            (field, group.seen)
            for group in groups
            if not group.name.endswith("MERGED")
            for field in group
        }

        assert set() == merged & copied


def test_a_group_is_copied_from_vmcs12_to_vmcs02_and_back():
    vmcs12, vmcs02 = VmcsBatch(VMCS12, 2), VmcsBatch(VMCS, 2)
    for number, name in enumerate(VMCS12.names, 1):
        vmcs12[name] = [number, 0]
    group = group_named("RARE_SEGMENTS")
    vmcs02.copy_from(vmcs12, group)
    changed = {name: vmcs12[0][name] for name in group}

    assert changed == {name: value for name, value in vmcs02[0].fields().items() if value}
    back = VmcsBatch(VMCS12, 2)
    back.copy_from(vmcs02, group)
    assert changed == {name: value for name, value in back[0].fields().items() if value}


def test_a_group_of_ones_own_is_copied():
    mine = FieldGroup("MINE", "vmcb12 to vmcb02", ("rip", "cs.base"), seen="a patch")
    source, target = VmcbBatch(VMCB, 1), VmcbBatch(VMCB, 1)
    source["rip"], source["cs.base"], source["rax"] = 1, 2, 3
    target.copy_from(source, mine)

    assert {"rip": 1, "cs.base": 2} == {n: v for n, v in target[0].fields().items() if v}
