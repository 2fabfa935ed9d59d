"""Each policy on the example kernels: what it announces, and its own failure."""

import pytest

from emu.errors import InputError
from emu.migration.capture import shipped
from emu.migration.guest import load_registers, load_state, new_vcpu
from emu.migration.matrix import kernel_of
from emu.migration.migrate import migrate
from emu.migration.policy import (
    POLICIES,
    POLICY_RULES,
    Record,
    admit_qemu,
    admit_within_maximum,
    common,
    format_version,
    nothing,
    policy,
    save_maximum,
    save_qemu,
)
from emu.migration.scenarios import example_kernels
from emu.releases import RELEASES, release
from emu.releases.schema import PLACES

L2 = shipped()["vmx-l2-running"]
GROWN = {kernel.name.removeprefix("6.12-v2-"): kernel for kernel in example_kernels()}
OLD = release("6.12")


def kvm(kernel, how):
    return kernel_of(policy(how).announce(kernel), L2)


def moved(how, source, destination, *, in_use=True):
    """Outcome of a move, and why: the rule, what is lost, or what was withheld."""
    grown = None if in_use else {}
    verdict = migrate(L2, kvm(source, how), kvm(destination, how), policy(how), grown=grown)
    lost = tuple(item.name.removeprefix("grown.") for item in verdict.lost)
    return verdict.outcome, verdict.rule or lost or verdict.withheld


def test_the_options_of_2018_are_there():
    assert {"(i)", "(ii)", "(iii)", "(iv)", ""} == {how.option for how in POLICIES}
    assert len(POLICIES) == len({how.name for how in POLICIES}) == 7
    assert all(how.title for how in POLICIES)


# A guest of the grown kernel uses what that added, and moves to the kernel without it.
DOWN = {
    ("maximum", "header"): ("lost", ("notification_deadline",)),
    ("maximum", "page"): ("refused", "record_within_maximum"),
    ("maximum", "vmcs12"): ("lost", ("notify_multiplier",)),
    ("size", "header"): ("lost", ("notification_deadline",)),
    ("size", "page"): ("lost", ("vmx_extension",)),
    ("size", "vmcs12"): ("lost", ("notify_multiplier",)),
    ("flags", "header"): ("refused", "flags_known"),
    ("flags", "page"): ("refused", "flags_known"),
    ("flags", "vmcs12"): ("refused", "flags_known"),
    ("capability", "header"): ("lost", ("notification_deadline",)),
    ("capability", "page"): ("lost", ("vmx_extension",)),
    ("capability", "vmcs12"): ("lost", ("notify_multiplier",)),
    ("quirk", "header"): ("accepted", ("notification_deadline",)),
    ("quirk", "page"): ("accepted", ("vmx_extension",)),
    ("quirk", "vmcs12"): ("accepted", ("notify_multiplier",)),
    ("version", "header"): ("refused", "version_known"),
    ("version", "page"): ("refused", "version_known"),
    ("version", "vmcs12"): ("refused", "version_known"),
    ("qemu", "header"): ("refused", "flags_known"),
    ("qemu", "page"): ("refused", "qemu_size_within_maximum"),
    ("qemu", "vmcs12"): ("refused", "flags_known"),
}


@pytest.mark.parametrize(("how", "place"), DOWN, ids=lambda value: value)
def test_what_becomes_of_content_in_use_on_the_way_down(how, place):
    assert DOWN[how, place] == moved(how, GROWN[place], OLD)


@pytest.mark.parametrize(("how", "place"), DOWN, ids=lambda value: value)
def test_content_that_is_not_in_use_closes_the_way_down_only_where_the_policy_cannot_tell(
    how, place
):
    blind = {
        ("maximum", "page"): "record_within_maximum",
        **{("version", any_place): "version_known" for any_place in GROWN},
    }
    expected = blind.get((how, place))

    assert ("refused" if expected else "accepted", expected or ()) == moved(
        how, GROWN[place], OLD, in_use=False
    )


@pytest.mark.parametrize(("how", "place"), DOWN, ids=lambda value: value)
def test_the_way_up_is_open_under_every_policy(how, place):
    assert ("accepted", ()) == moved(how, OLD, GROWN[place])


# QEMU's stream has no field for a header word, nor for a page, that it does not know.
STAYS = {
    ("qemu", "header"): ("lost", ("notification_deadline",)),
    ("qemu", "page"): ("lost", ("vmx_extension",)),
}


@pytest.mark.parametrize(("how", "place"), DOWN, ids=lambda value: value)
def test_between_two_grown_kernels_content_arrives(how, place):
    outcome, why = moved(how, GROWN[place], GROWN[place])

    assert STAYS.get((how, place), ("accepted", ()))[0] == outcome
    assert set(STAYS.get((how, place), ("", ()))[1]) <= set(why)


def test_how_each_policy_announces_a_page():
    announced = {how.name: how.announce(GROWN["page"]).growth[-1].announced_by for how in POLICIES}

    assert {
        "maximum": "always",
        "size": "size",
        "flags": "KVM_STATE_NESTED_VMX_EXTENSION",
        "capability": "KVM_CAP_NESTED_STATE_VMX_EXTENSION",
        "quirk": "KVM_X86_QUIRK_VMX_EXTENSION",
        "version": "always",
        "qemu": "KVM_STATE_NESTED_VMX_EXTENSION",
    } == announced


@pytest.mark.parametrize("how", POLICIES, ids=lambda how: how.name)
def test_a_released_kernel_is_announced_as_it_is(how):
    assert () == how.announce(OLD).growth
    assert OLD.facts == how.announce(OLD).facts
    assert all(item.place in PLACES for k in GROWN.values() for item in how.announce(k).growth)


def test_a_pool_turns_on_what_both_sides_have():
    new = policy("capability").announce(GROWN["page"])

    assert frozenset() == nothing(new, new)
    assert frozenset() == common(new, OLD) == common(OLD, new)
    assert {"KVM_CAP_NESTED_STATE_VMX_EXTENSION"} == common(new, new)


def departing(kernel="6.12"):
    vcpu = new_vcpu(kernel_of(release(kernel), L2))
    load_registers(vcpu, L2)
    load_state(vcpu, L2.blob)
    return vcpu


def test_a_record_is_what_each_policy_says():
    vcpu, old = departing(), kernel_of(release("5.4"), L2)
    saved = {how.name: how.save(vcpu, old) for how in POLICIES}

    assert {4224, 8320} == {len(record.blob) for record in saved.values()}
    assert 8320 == len(save_maximum(vcpu, old).blob) == len(saved["maximum"].blob)
    assert saved["version"].version == format_version(OLD, "intel") > 0
    assert L2.blob == saved["flags"].blob == save_qemu(vcpu, old).blob


def test_a_format_grows_with_its_version():
    numbers = [format_version(kernel, "intel") for kernel in RELEASES.values() if not kernel.stable]

    assert numbers == sorted(numbers)
    assert format_version(OLD, "intel") < format_version(GROWN["header"], "intel")
    assert format_version(release("5.7"), "amd") < format_version(release("5.8"), "amd")


def test_qemu_refuses_with_the_words_of_its_log():
    none = kernel_of(release("4.18"), L2)
    state = kernel_of(release("6.12"), L2)
    large = bytearray(9000)
    large[4:8] = (9000).to_bytes(4, "little")

    admit_qemu(Record(b""), none)
    admit_qemu(Record(L2.blob), state)
    with pytest.raises(Exception, match="when kernel cannot restore it") as refused:
        admit_qemu(Record(L2.blob), none)
    assert "qemu_kernel_has_nested_state" == refused.value.rule
    with pytest.raises(Exception, match=r"nested_state->size=9000, max=8320") as refused:
        admit_qemu(Record(bytes(large)), state)
    assert "qemu_size_within_maximum" == refused.value.rule


def test_the_receiving_side_compares_with_the_destinations_maximum():
    state = kernel_of(release("6.12"), L2)
    admit_within_maximum(Record(bytes(8320)), state)

    with pytest.raises(Exception, match="8321 bytes, the destination's maximum is 8320"):
        admit_within_maximum(Record(bytes(8321)), state)


def test_every_rule_of_the_receiving_side_is_one_that_a_policy_asks():
    assert {
        "record_within_maximum",
        "version_known",
        "qemu_kernel_has_nested_state",
        "qemu_size_within_maximum",
    } == {rule.name for rule in POLICY_RULES}


def test_an_unknown_policy_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="no policy is named 'luck'; policies: maximum, size, fla"):
        policy("luck")
