"""Arrows between packages run down only, and one module knows numba."""

import ast

import pytest

from tests.style.sources import imported, trees

THE_JIT_MODULE = "vmcs.jit"

# What each package of emu may import from the others directly; what lies below those is allowed
# too. The command line and the conformance runner stand above everything.
BELOW = {
    "cli": {"serve", "migration", "conform", "guests"},
    "conform": {"serve", "migration", "guests"},
    "serve": {"kvm"},
    "migration": {"kvm", "releases", "guests"},
    "kvm": {"machine", "releases"},
    "machine": {"vmx", "svm", "guests"},
    "vmx": {"cpu"},
    "svm": {"cpu"},
    "cpu": {"memory"},
    "memory": set(),
    "releases": set(),
    "guests": set(),
}

# Modules at the root of emu: errors and files stand below all packages, the entry above them.
ROOT_MODULES = {"emu", "emu.errors", "emu.files", "emu.__main__"}


def reachable(package):
    """Packages that `package` may import, itself included."""
    found = {package}
    waiting = [package]
    while waiting:
        for below in BELOW[waiting.pop()] - found:
            found.add(below)
            waiting.append(below)
    return found


def first_part(module):
    return module.split(".")[0]


def package_of(module):
    """The package of emu that a name lies in; None for a module at the root."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in BELOW else None


@pytest.mark.parametrize("module", sorted(trees()))
def test_only_the_jit_module_imports_numba(module):
    numba = [name for name in imported(module, trees()[module]) if first_part(name) == "numba"]

    assert module == THE_JIT_MODULE or [] == numba


def test_the_jit_module_is_the_one_that_imports_numba():
    assert "numba" in set(imported(THE_JIT_MODULE, trees()[THE_JIT_MODULE]))


@pytest.mark.parametrize("module", [name for name in sorted(trees()) if first_part(name) == "vmcs"])
def test_vmcs_imports_nothing_of_emu(module):
    upward = [name for name in imported(module, trees()[module]) if first_part(name) == "emu"]

    assert [] == upward


@pytest.mark.parametrize("module", [name for name in sorted(trees()) if first_part(name) == "emu"])
def test_emu_imports_downward_only(module):
    package = package_of(module)
    used = {
        package_of(name)
        for name in imported(module, trees()[module])
        if first_part(name) == "emu" and package_of(name) is not None
    }
    allowed = set(BELOW) if module == "emu.__main__" else reachable(package) if package else set()

    assert package is not None or module in ROOT_MODULES
    assert set() == used - allowed


def test_relative_and_dynamic_imports_are_seen():
    tree = ast.parse("from . import a\nfrom .b import c\nimport_module('numba')\nimport numba.core")

    assert {"vmcs.a", "vmcs.b.c", "numba", "numba.core"} == set(imported("vmcs.jit", tree))
