import pytest

from emu.errors import InputError
from emu.kvm.ioctl_rules import IOCTL_RULES
from emu.migration.policy import POLICY_RULES
from emu.migration.rulebook import TABLES, releases_with, rule_named, rules, rules_named
from emu.releases import RELEASES
from vmcs.checks import Kind

ALL = list(rules())


def test_every_row_of_every_table_is_in_the_book():
    rows = [row.name for _, _, table in TABLES for row in table if row.kind is not Kind.LET]
    others = [rule.name for rule in (*IOCTL_RULES, *POLICY_RULES)]

    assert [*rows, *others] == [rule.name for rule in ALL]
    assert len(ALL) > 400


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: f"{rule.table} {rule.name}")
def test_every_rule_says_what_it_asks_and_where_it_stands(rule):
    assert rule.asks
    assert rule.section
    assert rule.kind in ("check", "returns", "effect")
    assert set(rule.kernels) <= set(RELEASES)


def test_a_row_of_a_release_has_releases_and_one_of_the_processor_has_none():
    mine = [rule for rule in ALL if "NESTED_STATE on" in rule.table]
    theirs = [rule for rule in ALL if rule.table.startswith("VM entry") or rule.table == "VMRUN"]

    assert all(rule.kernels for rule in mine)
    assert not any(rule.kernels for rule in theirs)


def test_rules_are_found_by_name():
    assert rule_named("no such rule") is None
    assert "EINVAL" == rule_named("flags_known").result
    assert ["KVM_SET_NESTED_STATE on Intel", "KVM_SET_NESTED_STATE on AMD"] == [
        rule.table for rule in rules_named("flags_known")
    ]
    with pytest.raises(InputError, match=r"no rule is named 'vmxon_pa_page'; near: vmxon_pa_page_"):
        rules_named("vmxon_pa_page")
    with pytest.raises(InputError, match=r"^no rule is named '\?\?\?'$"):
        rules_named("???")


def test_releases_are_told_as_ranges_of_mainline_and_stable_trees_by_name():
    assert "4.19-5.1, 5.7, 5.10.262" == releases_with(
        ("4.19", "4.20", "5.0", "5.1", "5.7", "5.10.262")
    )
    assert "" == releases_with(())
    assert releases_with(tuple(RELEASES)).startswith("4.18-7.3, 5.10.262, 6.1.192")
