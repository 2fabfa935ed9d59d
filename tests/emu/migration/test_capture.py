import gzip
import json
import re
from pathlib import Path

import pytest

from emu.conform.run import checksum
from emu.errors import InputError, StateError
from emu.migration.capture import (
    CPU_OF,
    Capture,
    check_blob,
    of_blob,
    shipped,
    shipped_capture,
)
from emu.releases import RELEASES
from vmcs.nested_state import Format

RECORDINGS = Path(__file__).parents[2] / "data" / "real-kernel-verdicts"
RECORDED = [capture for capture in shipped().values() if capture.recorded]
BLOB = shipped()["vmx-l2-running"].blob


def test_captures_ship_for_both_vendors():
    assert {"vmx", "svm"} == {name.split("-")[0] for name in shipped()}
    assert list(shipped()) == sorted(shipped())
    assert 8 == len(RECORDED)


@pytest.mark.parametrize("capture", RECORDED, ids=lambda capture: capture.name)
def test_a_capture_is_what_the_real_kernel_handed_out(capture):
    """The provenance names a recorded case; that case has the checksum of the real answer."""
    pattern = r"of Linux (\S+) .* recorded verdict (\S+) case (\d+), FNV-1a (\w+)$"
    kernel, recording, number, stated = re.search(pattern, capture.provenance).groups()
    data = json.loads(gzip.decompress((RECORDINGS / f"{recording}.json.gz").read_bytes()))
    [case] = [case for case in data["cases"] if case["id"] == int(number)]

    assert kernel in RELEASES
    assert case["expect"]["get_fnv64"] == stated == checksum(capture.blob)
    assert case["expect"]["get_size"] == len(capture.blob)
    registers = [case["expect"][name] for name in ("cr0", "cr3", "cr4", "efer")]
    assert registers == [capture.cr0, capture.cr3, capture.cr4, capture.efer]


def test_a_capture_that_no_kernel_handed_out_says_so():
    [made] = [capture for capture in shipped().values() if not capture.recorded]

    assert "vmx-l2-timer" == made.name
    assert "put in by hand" in made.provenance


@pytest.mark.parametrize("capture", shipped().values(), ids=list(shipped()))
def test_json_holds_the_whole_capture(capture):
    data = json.loads(json.dumps(capture.to_json()))

    assert capture == Capture.from_json(data, "there")
    assert capture.title
    assert capture.vendor == {"vmx": "intel", "svm": "amd"}[capture.name[:3]]
    assert CPU_OF[capture.vendor] == capture.cpu


def test_what_json_does_not_say_is_as_a_long_mode_vcpu_has_it():
    data = {"kind": "nestling-capture", "version": 1, "blob": BLOB.hex(), "colour": "red"}
    capture = Capture.from_json(data, "there")

    assert ("there", 0x500, 0x20, False) == (capture.name, capture.efer, capture.cr4, capture.smm)


def test_registers_of_a_bare_vmx_blob_are_those_of_its_l2():
    capture = of_blob("state", BLOB)
    recorded = shipped()["vmx-l2-running"]

    assert (recorded.cr0, recorded.cr3, recorded.cr4, recorded.efer) == (
        capture.cr0,
        capture.cr3,
        capture.cr4,
        capture.efer,
    )


def test_registers_of_a_bare_blob_without_l2_allow_vmx_operation():
    capture = of_blob("state", shipped()["vmx-l1-vmxon"].blob)

    assert (0x2020, 5) == (capture.cr4, capture.feature_control)


def test_a_bare_blob_with_smm_flags_comes_with_smm():
    blob = bytearray(shipped()["vmx-l1-current-vmcs"].blob)
    blob[24] = 2
    capture = of_blob("state", bytes(blob))

    assert (True, 0x20) == (capture.smm, capture.cr4)


def test_a_bare_svm_blob_comes_with_svme():
    assert 0x1500 == of_blob("state", shipped()["svm-l1-gif-clear"].blob).efer


def test_another_blob_keeps_the_vcpu():
    capture = shipped()["vmx-l2-running"]
    other = capture.with_blob(capture.blob[:128])

    assert capture.blob[:128] == other.blob
    assert capture.cr3 == other.cr3


@pytest.mark.parametrize(
    ("blob", "offset", "words"),
    [
        (b"", None, "state: 0 bytes"),
        (BLOB[:127], None, "127 bytes, but the header alone has 128"),
        (BLOB[:2] + b"\x02\0" + BLOB[4:], 2, "state: at byte 2: no nested state: format 0x2"),
        (BLOB[:-1], 4, "state: at byte 4: cut short: the header says 4224 bytes, there are 4223"),
    ],
)
def test_bytes_that_are_no_blob_are_refused_with_the_place(blob, offset, words):
    with pytest.raises(StateError) as caught:
        check_blob(blob, "state")

    assert words in str(caught.value)
    assert offset == caught.value.offset


def test_a_format_word_that_is_neither_counts_as_vmx():
    assert Format.VMX == Capture("x", BLOB[:2] + b"\x09\0" + BLOB[4:]).format


def test_an_unknown_capture_is_refused_with_the_known_names():
    assert shipped()["vmx-l1-vmxon"] is shipped_capture("vmx-l1-vmxon")
    with pytest.raises(InputError, match="no capture is named 'x'; shipped: svm-l1-gif-clear, "):
        shipped_capture("x")
