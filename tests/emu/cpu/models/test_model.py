"""Processor models: what CPUID tells, and models from records."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from emu.cpu.models import MODELS, from_environment, load_model, varied
from emu.cpu.models.features import FEATURES
from emu.errors import InputError


@pytest.mark.parametrize("name", sorted(FEATURES))
def test_a_feature_is_the_bit_that_cpuid_tells(name):
    feature = FEATURES[name]
    model = MODELS["skylake-x"]
    words = model.leaves.get((feature.leaf, feature.subleaf), (0, 0, 0, 0))

    assert bool(words[feature.register] >> feature.bit & 1) == model.has(name)


def test_leaves_out_of_range_follow_the_vendor():
    intel, amd = MODELS["skylake-x"], MODELS["zen3"]

    assert intel.cpuid(0x16, 0) == intel.cpuid(0x7000_0000, 0)
    assert (0, 0, 0, 0) == amd.cpuid(0x7000_0000, 0)


@pytest.mark.parametrize(
    ("name", "vendor", "physical"),
    [
        ("skylake-x", "GenuineIntel", 46),
        ("zen3", "AuthenticAMD", 48),
        ("minimal", "GenuineIntel", 36),
    ],
)
def test_vendor_and_address_width(name, vendor, physical):
    model = MODELS[name]

    assert (vendor, physical) == (model.vendor, model.maxphyaddr)


def test_state_components_do_not_overlap():
    model = MODELS["skylake-x"]
    areas = sorted(model.component(n)[1::-1] for n in (2, 9))

    assert all(a[0] + a[1] <= b[0] for a, b in pairwise(areas))


def record(model):
    return {
        "cpuid": [[*key, *words] for key, words in model.leaves.items()],
        "feature_msrs": {hex(k): v for k, v in model.msrs.items()},
    }


def test_a_record_gives_the_model_back():
    model = MODELS["zen3"]
    again = from_environment("zen3", record(model))

    assert (model.leaves, model.msrs) == (again.leaves, again.msrs)


def test_of_records_by_release_the_newest_counts(tmp_path):
    path = tmp_path / "model.json"
    found = {"5.10.262": record(MODELS["minimal"]), "6.1.192": record(MODELS["zen3"])}
    path.write_text(json.dumps({"recorded": found}))

    assert MODELS["zen3"].leaves == load_model(str(path)).leaves


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"cpuid": [[1]]}', '{"cpuid": []}'])
def test_a_file_that_is_no_record_is_refused(tmp_path, text):
    path = tmp_path / "model.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"model\.json"):
        load_model(str(path))


def test_features_can_be_added_and_taken_away():
    model = varied(MODELS["zen3"], ["-npt", "+tsc_adjust"])

    assert (False, True) == (model.has("NPT"), model.has("TSC_ADJUST"))
    assert MODELS["zen3"].features ^ model.features == {"NPT", "TSC_ADJUST"}
    assert "zen3,-npt,+tsc_adjust" == model.name


@pytest.mark.parametrize("change", ["npt", "+", "-flux_capacitor", ""])
def test_what_is_no_feature_is_refused(change):
    with pytest.raises(InputError, match="is no change"):
        varied(MODELS["zen3"], [change])
