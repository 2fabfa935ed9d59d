"""Facts that the tests of the SVM tables share, read from the files in tests/data."""

import csv
import json
from pathlib import Path

DATA = Path(__file__).parents[2] / "data"


def rows_of(name):
    with (DATA / name).open(newline="") as source:
        return list(csv.DictReader(source))


CONSTANTS = {row["name"]: int(row["value_hex"], 16) for row in rows_of("linux-7.3-svm-macros.csv")}
"""Values of the kernel's macros and enumerators, by name."""

LAYOUT = [row for row in rows_of("linux-vmcb-layout.csv") if row["c_type"] != "struct vmcb_seg"]
"""Members of the kernel's VMCB, in order, without the segment registers as a whole."""


def recorded():
    """KVM_SET_NESTED_STATE, then KVM_GET_NESTED_STATE, on real kernels: base and the kernels."""
    facts = json.loads((DATA / "linux-svm-get-after-set.json").read_text())
    return bytes.fromhex(facts["base"]), facts["kernels"]
