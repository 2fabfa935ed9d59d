import pytest

from emu.kvm import ModuleParameters
from emu.kvm.cpu_models import host_of
from emu.kvm.cpuid import Cpuid
from emu.kvm.svm_cpuid import SVM_BITS, offered
from emu.releases import RELEASES
from tests.emu.kvm.svm_support import recorded

RECORDED = {
    "5.10.262": "svm-5.10",
    "6.1.192": "svm-6.1",
    "6.12.115": "svm-6.12",
    "6.18.15": "svm-6.18",
    "7.2.13": "svm-7.2",
}


def features(release):
    return {name for name, mask in SVM_BITS.items() if offered(RELEASES[release]) & mask}


@pytest.mark.parametrize(("release", "recording"), RECORDED.items())
def test_the_derived_host_is_the_recorded_one(release, recording):
    environment = recorded(recording)["environment"]
    host = host_of("epyc-milan", RELEASES[release])

    assert Cpuid(environment["cpuid"]) == host.cpuid
    assert {int(k, 16): v for k, v in environment["feature_msrs"].items()} == host.feature_msrs


@pytest.mark.parametrize(
    ("release", "feature"),
    [
        ("5.12", "SVME_ADDR_CHK"),
        ("5.16", "TSCRATEMSR"),
        ("5.17", "VMCBCLEAN"),
        ("5.19", "VGIF"),
        ("5.19", "LBRV"),
        ("6.4", "VNMI"),
        ("6.8", "FLUSHBYASID"),
        ("7.2", "GMET"),
    ],
)
def test_a_feature_is_offered_from_its_release_on(release, feature):
    order = [name for name, kernel in RELEASES.items() if not kernel.stable]
    before = order[order.index(release) - 1]

    assert feature in features(release)
    assert feature not in features(before)


@pytest.mark.parametrize("release", ["5.18", "5.19"])
def test_a_kernel_between_the_recorded_ones_shows_what_it_offers_of_the_processor(release):
    host = host_of("epyc-milan", RELEASES[release])

    assert (release == "5.19") == host.cpuid.has("VGIF")
    assert not host.cpuid.has("LBRV")


def test_nested_off_hides_svm():
    host = host_of("epyc-milan", RELEASES["6.12"], ModuleParameters(nested=False))

    assert not host.cpuid.has("SVM")
    assert not host.cpuid.has("NPT")
