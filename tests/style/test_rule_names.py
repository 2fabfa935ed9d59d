"""Every refusal has a name, every name is explained, and every row says where it stands."""

import ast
import re

import pytest

from emu.kvm.ioctl_rules import IOCTL_RULES
from emu.migration.policy import POLICY_RULES
from emu.migration.rulebook import TABLES
from emu.releases import RELEASES
from tests.style.sources import trees
from vmcs.checks import Kind

# Place of the rule among the arguments.
RAISED = {"KvmError": 2, "MsrRefused": 0}
NAMED = {rule.name for rule in (*IOCTL_RULES, *POLICY_RULES)}
# A walk over rows refuses by the name of the row that stopped it.
BY_ROW = {"emu.kvm.rule_program"}
KERNEL_FILE = re.compile(
    r"^(?:arch|virt|include|Documentation|tools)/[\w./-]+\.(?:c|h|rst|S)\b|^arch/x86/kvm/Kconfig: "
)


def raised():
    """(module, line, rule as it is written) of every refusal in the packages."""
    for module, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                at = RAISED.get(name)
                if at is not None and len(node.args) > at:
                    yield module, node.lineno, node.args[at]


def test_a_refusal_in_code_has_a_name_that_is_explained():
    wrong = [
        f"{module}:{line}: {ast.unparse(rule)}"
        for module, line, rule in raised()
        if module not in BY_ROW and not (isinstance(rule, ast.Constant) and rule.value in NAMED)
    ]

    assert [] == wrong


def test_every_explained_name_refuses_somewhere():
    used = {rule.value for _, _, rule in raised() if isinstance(rule, ast.Constant)}
    words = {
        node.value
        for tree in trees().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }

    assert len(used) > 80
    assert set() == NAMED - used - words


def test_names_are_unique():
    names = [rule.name for rule in (*IOCTL_RULES, *POLICY_RULES)]

    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", RELEASES)
def test_every_difference_of_a_release_cites_kernel_file_and_symbol(name):
    differences = RELEASES[name].differences

    assert [] == [d for d in differences if not KERNEL_FILE.match(d.seen)]


@pytest.mark.parametrize(("title", "fact", "rows"), TABLES, ids=[title for title, *_ in TABLES])
def test_every_row_of_a_table_cites_the_manual_or_the_kernel(title, fact, rows):
    rows = [row for row in rows if row.kind is not Kind.LET]
    uncited = [row.name for row in rows if not row.section]
    symbols = [row.name for row in rows if fact and ": " not in row.section]

    assert ([], []) == (uncited, symbols)
