"""QEMU's own refusals while loading: each row broken alone, in every release that has it."""

from errno import EINVAL, ENOENT

import pytest

from emu.errors import InputError
from emu.migration.qemu_stream import (
    LOAD_CHECKS,
    HFlags,
    NestedState,
    QemuStream,
    Subsection,
    load_checks,
    qemu_version,
    synthesize,
)
from tests.emu.migration.qemu_stream.blobs import svm_blob, vmx_blob

RELEASES = ((4, 1), (4, 2), (5, 0), (5, 1), (5, 2), (6, 0), (7, 2), (8, 0), (9, 2), (11, 0))


def stream_of(*blobs, **registers):
    return QemuStream.parse(synthesize(blobs, registers=registers))


def with_state(**words):
    """A stream whose nested state says something that no kernel would."""
    stream = stream_of(None)
    state = {"flags": 0, "format": 0, "size": 128} | words
    stream.vcpus[0].insert(Subsection.of_nested_state(NestedState(**state)))
    return stream


def names_of(findings):
    return [finding.check.name for finding in findings]


@pytest.mark.parametrize("qemu", RELEASES)
@pytest.mark.parametrize(
    ("blob", "maximum"),
    [
        (None, 0),
        (None, 8320),
        (vmx_blob(0), 8320),
        (vmx_blob(1), 8320),
        (vmx_blob(2, flags=1), 8320),
        (svm_blob(0, flags=0x100), 4224),
    ],
)
def test_what_a_source_sends_is_loaded(blob, maximum, qemu):
    assert [] == load_checks(stream_of(blob), maximum, qemu=qemu)


@pytest.mark.parametrize("qemu", RELEASES)
def test_svm_state_is_known_from_5_1_on(qemu):
    findings = load_checks(stream_of(svm_blob()), 4224, qemu=qemu)

    assert (qemu >= (5, 1)) == (findings == [])
    if findings:
        assert "subsection_known" == findings[0].check.name
        assert "error while loading state for instance 0x0 of device 'cpu'" == findings[0].text
        assert "load of migration failed: No such file or directory" == findings[0].outcome


@pytest.mark.parametrize(
    ("qemu", "word"),
    [((4, 1), "Recieved"), ((5, 2), "Recieved"), ((6, 0), "Received"), ((11, 0), "Received")],
)
def test_a_size_above_the_maximum_is_refused_in_the_words_of_the_release(qemu, word):
    (finding,) = load_checks(stream_of(vmx_blob(2)), 4224, qemu=qemu)

    assert "nested_size_maximum" == finding.check.name
    assert (
        f"{word} unsupported nested state size: nested_state->size=8320, max=4224" == finding.text
    )
    assert "load of migration failed: Invalid argument" == finding.outcome


# The cases that QEMU's author tested: "KVM: i386: Add support for save and restore nested state",
# v2, qemu-devel, September 2018. (source's blob, destination's maximum, loads)
SIZE_CASES = {
    "a-equal-maxima": (vmx_blob(2), 8320, True),
    "b-source-has-none": (None, 8320, True),
    "c-destination-has-none": (vmx_blob(2), 0, False),
    "d-destination-has-more": (vmx_blob(2), 16512, True),
    "e-destination-has-less-but-enough": (vmx_blob(1), 4224, True),
    "f-destination-has-too-little": (vmx_blob(2), 4224, False),
}


@pytest.mark.parametrize("case", SIZE_CASES)
def test_the_six_size_cases_come_out_as_tested(case):
    blob, maximum, loads = SIZE_CASES[case]

    assert loads == (not load_checks(stream_of(blob), maximum))


def test_state_without_a_buffer_aborts_before_any_message():
    findings = load_checks(stream_of(vmx_blob(1)), 0)

    assert ["nested_buffer_allocated", "nested_state_supported", "nested_size_maximum"] == names_of(
        findings
    )
    assert "SIGABRT" == findings[0].outcome
    assert "Assertion `first_elem || !n_elems || !size' failed." in findings[0].text


def test_a_vcpu_without_vmx_or_svm_aborts():
    (finding,) = load_checks(stream_of(vmx_blob(1)), 8320, vendor=None)

    assert "nested_buffer_allocated" == finding.check.name


@pytest.mark.parametrize(("qemu", "aborts"), [((4, 1), True), ((5, 0), True), ((5, 1), False)])
def test_an_svm_vcpu_has_a_buffer_from_5_1_on(qemu, aborts):
    found = names_of(load_checks(stream_of(vmx_blob(1)), 8320, qemu=qemu, vendor="svm"))

    assert aborts == ("nested_buffer_allocated" in found)


@pytest.mark.parametrize("size", [0, 1, 127])
def test_a_size_below_the_header_is_refused(size):
    (finding,) = load_checks(with_state(size=size), 8320)

    assert f"Received nested state size less than min: len={size}, min=128" == finding.text


def test_a_size_of_exactly_the_header_or_the_maximum_is_loaded():
    assert [] == load_checks(with_state(size=128), 8320)
    assert [] == load_checks(with_state(size=8320), 8320)
    assert ["nested_size_maximum"] == names_of(load_checks(with_state(size=8321), 8320))


def test_a_huge_size_is_printed_as_c_prints_it():
    (finding,) = load_checks(with_state(size=0xFFFF_FFFF), 8320)

    assert "nested_state->size=-1, max=8320" in finding.text


@pytest.mark.parametrize("number", [2, 0xFFFF])
def test_an_unknown_format_is_refused(number):
    (finding,) = load_checks(with_state(format=number), 8320)

    assert f"Received invalid nested state format: {number}" == finding.text


def test_a_vmx_blob_is_not_refused_on_an_svm_host():
    assert [] == load_checks(stream_of(vmx_blob(0)), 4224, vendor="svm")


@pytest.mark.parametrize(("blob", "flags"), [(None, 0), (vmx_blob(1), 0), (svm_blob(flags=0), 0)])
def test_guest_mode_without_nested_guest_mode_is_refused(blob, flags):
    stream = stream_of(blob)
    stream.vcpus[0].registers.assign_bits("hflags", HFlags.GUEST, on=True)
    (finding,) = load_checks(stream, 8320)

    assert "vCPU set in guest-mode inconsistent with migrated kernel nested state" == finding.text
    assert EINVAL == finding.check.errno


def test_nested_guest_mode_without_guest_mode_is_loaded():
    stream = stream_of(vmx_blob(1, flags=1))
    stream.vcpus[0].registers.assign_bits("hflags", HFlags.GUEST, on=False)

    assert [] == load_checks(stream, 8320)


@pytest.mark.parametrize(
    ("migrated", "user", "loads"),
    [(2_000_000, 0, True), (2_000_000, 2_000_000, True), (2_000_000, 1, False), (0, 1, True)],
)
def test_the_tsc_frequency_must_be_the_command_lines(migrated, user, loads):
    made = Subsection.of("cpu/tsc_khz", tsc_khz=migrated)
    stream = QemuStream.parse(synthesize(subsections=[made]))
    findings = load_checks(stream, 8320, user_tsc_khz=user)

    assert loads == (not findings)
    if findings:
        assert (
            "Mismatch between user-specified TSC frequency and migrated TSC frequency"
            == findings[0].text
        )


def test_an_old_floating_point_format_is_refused():
    (finding,) = load_checks(stream_of(None, fpregs_format_vmstate=1), 8320)

    assert "Unsupported old non-softfloat CPU state" == finding.text


@pytest.mark.parametrize(
    ("name", "since"),
    [
        ("cpu/pdptrs", (6, 2)),
        ("cpu/xen_vcpu", (8, 0)),
        ("cpu/cet", (11, 0)),
        ("cpu/nonsense", None),
    ],
)
def test_a_subsection_newer_than_the_release_is_refused(name, since):
    stream = stream_of(None)
    stream.vcpus[0].insert(Subsection(name, 1, b""))
    for qemu in RELEASES:
        findings = load_checks(stream, 8320, qemu=qemu)

        assert (since is not None and qemu >= since) == (not findings)
        assert {ENOENT} >= {finding.check.errno for finding in findings}


def test_findings_name_their_vcpu():
    stream = stream_of(vmx_blob(1), None, vmx_blob(2))
    (finding,) = load_checks(stream, 4224)

    assert 2 == finding.vcpu


def test_every_check_can_be_broken():
    """The streams of this module break each row in the release that it names."""
    aborting = load_checks(stream_of(vmx_blob(1)), 0)
    unknown = stream_of(None, fpregs_format_vmstate=1)
    unknown.vcpus[0].insert(Subsection("cpu/nonsense", 1, b""))
    unknown.vcpus[0].insert(Subsection.of("cpu/tsc_khz", tsc_khz=5))
    unknown.vcpus[0].registers.assign_bits("hflags", HFlags.GUEST, on=True)
    found = {
        *names_of(aborting),
        *names_of(load_checks(unknown, 8320, user_tsc_khz=4)),
        *names_of(load_checks(with_state(size=1, format=9), 8320)),
    }

    assert {check.name for check in LOAD_CHECKS} == found


@pytest.mark.parametrize(
    ("text", "release"), [("7.2", (7, 2)), ("7.2.22", (7, 2)), ("11.0", (11, 0)), ("4.1.0", (4, 1))]
)
def test_releases_are_read(text, release):
    assert release == qemu_version(text)


@pytest.mark.parametrize("text", ["", "7", "7.x", "v7.2", "7.2.1.0", "-7.2"])
def test_what_is_no_release_is_refused(text):
    with pytest.raises(InputError, match=r"a QEMU release such as 7\.2 expected"):
        qemu_version(text)


@pytest.mark.parametrize("text", ["4.0", "2.12"])
def test_releases_without_nested_state_are_refused(text):
    with pytest.raises(InputError, match=r"from 4\.1 on"):
        qemu_version(text)
