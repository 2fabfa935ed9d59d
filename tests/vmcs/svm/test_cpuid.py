"""Leaf 8000_000Ah: the kernel's feature numbers and the manual's reserved bits."""

import pytest

from tests.vmcs.svm.facts import CONSTANTS
from vmcs.svm.cpuid import EAX, EBX, LEAF, SvmFeature, SvmFeatureEcx

WORD_15 = {name: value for name, value in CONSTANTS.items() if name.startswith("X86_FEATURE_")}


def test_leaf_is_the_one_that_the_kernel_asks_for():
    assert CONSTANTS["SVM_CPUID_FUNC"] == LEAF


def test_features_in_edx_have_the_numbers_of_the_kernel():
    assert WORD_15 == {row.macro: row.bit for row in SvmFeature.table if row.macro}


def test_reserved_bits_of_edx_are_those_of_the_manual():
    assert [9, 11, 14, 22, 31] == [row.bit for row in SvmFeature.table if row.reserved]


def test_features_in_ecx_are_those_of_the_manual():
    features = {row.name: row.bit for row in SvmFeatureEcx.table if not row.reserved}

    assert {"PML": 4, "ENHANCED_TLBI": 5, "X2AVIC_EXT": 6} == features


def test_revision_and_number_of_asids():
    assert {"SVM_REV": 1} == EAX.decode(0x1)
    assert {"NASID": 0x8000} == EBX.decode(0x8000)


@pytest.mark.parametrize("table", [SvmFeature, SvmFeatureEcx])
def test_every_bit_is_cited(table):
    assert [] == [row.name for row in table.table if not row.cite]


def test_recorded_leaf_of_a_processor_reads_as_its_features():
    assert (
        ("NP", "VMCB_CLEAN", "FLUSH_BY_ASID", "VGIF", "NESTED_VIRT_VMCB_ADDR_CHK")
    ) == SvmFeature.names_of(0x1001_0061)
