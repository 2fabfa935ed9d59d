"""Files that hold no nested state, and what is said of each."""

import gzip
import json

from emu.migration.capture import shipped
from emu.migration.qemu_stream import QemuStream
from tests.emu.migration.qemu_stream.conftest import recorded

BLOB = shipped()["vmx-l2-running"].blob


def with_nested_state():
    """A real QEMU's stream with nested state in both vCPUs."""
    stream = QemuStream.parse(recorded("qemu-7.2-q35-2-vcpus.stream.gz"))
    for cpu, name in zip(stream.vcpus, ("svm-l2-running", "svm-l2-entry-pending"), strict=True):
        cpu.set_nested_state(shipped()[name].blob)
    return stream.to_bytes()


STREAM = with_nested_state()
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(200)
ELF = b"\x7fELF\x02\x01\x01" + bytes(300)
CAPTURE = shipped()["vmx-l2-running"].to_json()


def text(value):
    return json.dumps(value).encode()


BAD_FILES = {
    "empty": (b"", "empty"),
    "blob cut in the header": (BLOB[:100], "the header alone has 128"),
    "blob cut behind the header": (BLOB[:2000], "the header says 4224 bytes, there are 2000"),
    "hexadecimal, cut": (BLOB.hex()[:4001].encode(), "4001 hexadecimal digits"),
    "hexadecimal of a cut blob": (BLOB.hex()[:4000].encode(), "says 4224 bytes, there are 2000"),
    "PNG": (PNG, "no nested state: format"),
    "ELF": (ELF, "no nested state: format"),
    "gzip": (gzip.compress(BLOB, mtime=0), "no nested state: format"),
    "large": (bytes(2 << 20), "2097152 bytes are no nested-state blob"),
    "not UTF-8": (b"{\xff\xfe", "not JSON"),
    "JSON, cut": (text(CAPTURE)[:500], "not JSON"),
    "JSON, too deep": (b"[" * 100_000, "not JSON"),
    "JSON of another kind": (b'{"a": 1}', "of kind None"),
    "JSON list of numbers": (b"[1, 2]", "not a JSON object"),
    "JSON list, empty": (b"[]", "no nested state: an empty list"),
    "capture of the future": (text({**CAPTURE, "version": 2}), "version 2, this Nestling reads 1"),
    "capture without a blob": (
        text({k: v for k, v in CAPTURE.items() if k != "blob"}),
        "'blob' is",
    ),
    "capture whose blob is no hexadecimal": (text({**CAPTURE, "blob": "xyz"}), "not hexadecimal"),
    "capture whose blob is cut": (text({**CAPTURE, "blob": BLOB[:50].hex()}), "alone has 128"),
    "capture whose register is text": (
        text({**CAPTURE, "cr0": "much"}),
        "'cr0' is not a number of",
    ),
    "capture whose register is too wide": (text({**CAPTURE, "cr3": 1 << 64}), "'cr3' is not"),
    "capture whose register is negative": (text({**CAPTURE, "cr4": -1}), "'cr4' is not"),
    "capture whose register is a fraction": (text({**CAPTURE, "efer": 1.5}), "'efer' is not"),
    "capture whose flag is text": (text({**CAPTURE, "smm": "no"}), "'smm' is"),
    "capture whose MSR is text": (text({**CAPTURE, "feature_control": "5"}), "'feature_control'"),
    "capture whose name is a number": (text({**CAPTURE, "name": 5}), "'name' is"),
    "stream, cut": (STREAM[: len(STREAM) // 2], "at byte"),
    "stream, its magic alone": (b"QEVM", "at byte"),
    "stream without nested state": (
        recorded("qemu-7.2-pc-ignore-shared.stream.gz"),
        "none of its 1 vCPUs has nested state",
    ),
}
"""Content, and words of the complaint."""
