import json
from itertools import pairwise

import pytest

from emu.errors import InputError
from emu.kvm.cpu_models import CPU_MODELS, cpu_model, host_of
from emu.kvm.cpu_models.capabilities import DONE_BY_KVM, SVM_ADDS, VMX_ADDS
from emu.kvm.cpu_models.feature_msrs import OFFERED, OTHER_BITS
from emu.kvm.cpu_models.features import BY_RELEASE, PLACE, WORD
from emu.kvm.cpu_models.model import FREE_OF
from emu.kvm.cpuid import FEATURES, Cpuid
from emu.kvm.host import AMD, Host, ModuleParameters
from emu.releases import RELEASES
from emu.releases.schema import Added, after
from tests.emu.kvm.vmx_support import recorded

INTEL_MODELS = ("skylake-x", "arrow-lake", "sapphire-rapids", "minimal-intel")
RECORDED = {
    "5.10.262": "5.10",
    "6.1.192": "6.1",
    "6.12.115": "6.12",
    "6.18.15": "6.18",
    "7.2.13": "7.2",
}
MAINLINE = [name for name, kernel in RELEASES.items() if not kernel.stable]
NESTED = ModuleParameters(nested=True)
BASIC, EXIT, ENTRY, MISC, CR4_FIXED1 = 0x480, 0x483, 0x484, 0x485, 0x489
VMCS_ENUM, PROC2, EPT_VPID, TRUE_PIN, TRUE_PROC = 0x48A, 0x48B, 0x48C, 0x48D, 0x48E
TRUE_EXIT, TRUE_ENTRY, VMFUNC = 0x48F, 0x490, 0x491
ARCH_CAPABILITIES, PERF_CAPABILITIES, PLATFORM_INFO = 0x10A, 0x345, 0xCE


def host(model, release, **parameters):
    return host_of(model, RELEASES[release], ModuleParameters(**parameters))


def msr(model, release, index, **parameters):
    return host(model, release, **{"nested": True} | parameters).feature_msrs[index]


def shown(model, release):
    """Names of the feature bits that KVM of `release` shows of a model."""
    cpuid = host_of(model, RELEASES[release], NESTED).cpuid
    return {
        name
        for name, (word, bit) in PLACE.items()
        if cpuid.register(WORD[word].function, WORD[word].subleaf, WORD[word].register) & bit
    }


# The recorded kernels -------------------------------------------------------------------------
@pytest.mark.parametrize("release", RECORDED)
@pytest.mark.parametrize(("model", "vendor"), [("skylake-x", "vmx"), ("epyc-milan", "svm")])
def test_the_derived_host_is_the_recorded_one_row_for_row_and_in_order(model, vendor, release):
    environment = recorded(f"{vendor}-{RECORDED[release]}")["environment"]
    made = host_of(model, RELEASES[release])

    assert [tuple(row) for row in environment["cpuid"]] == list(made.cpuid.rows)
    assert [(int(k, 16), v) for k, v in environment["feature_msrs"].items()] == list(
        made.feature_msrs.items()
    )


# Capability MSRs by release: nested-state ABI, "Nested VMX capability MSRs" ----------------------
@pytest.mark.parametrize(
    ("index", "release", "value"),
    [
        (BASIC, "4.20", 0x00D8_1000_11E5_7ED0),
        (BASIC, "6.17", 0x00D8_1000_11E5_7ED0),
        (BASIC, "6.18", 0x01D8_1000_11E5_7ED0),
        (TRUE_PIN, "4.19", 0xFF_0000_0016),
        (TRUE_PROC, "4.19", 0xFFF9_FFFE_0400_6172),
        (TRUE_EXIT, "5.9", 0x007F_EFFF_0003_6DFB),
        (TRUE_EXIT, "5.10", 0x007F_FFFF_0003_6DFB),
        (TRUE_EXIT, "6.17", 0x007F_FFFF_0003_6DFB),
        (TRUE_EXIT, "6.18", 0x107F_FFFF_0003_6DFB),
        (TRUE_ENTRY, "5.9", 0xD3FF_0000_11FB),
        (TRUE_ENTRY, "5.10", 0xF3FF_0000_11FB),
        (TRUE_ENTRY, "6.18", 0x10_F3FF_0000_11FB),
        (EXIT, "5.10", 0x007F_FFFF_0003_6DFF),
        (ENTRY, "5.10", 0xF3FF_0000_11FF),
        (MISC, "5.10", 0x2000_0065),
        (MISC, "5.11", 0x2000_0165),
        (VMCS_ENUM, "5.13", 0x2E),
        (VMCS_ENUM, "5.14", 0x32),
        (PROC2, "4.18", 0x0002_23F7 << 32),
        (PROC2, "4.19", 0x0002_63F7 << 32),
        (PROC2, "5.2", 0x0002_63F7 << 32),
        (PROC2, "5.3", 0x0013_7BFF << 32),
        (PROC2, "5.13", 0x0013_7BFF << 32),
        (PROC2, "5.14", 0x0213_7BFF << 32),
        (PROC2, "6.1", 0x0213_7BFF << 32),
        (PROC2, "6.1.192", 0x0613_7BFF << 32),
        (PROC2, "6.2", 0x0613_7BFF << 32),
        (PROC2, "7.1", 0x0613_7BFF << 32),
        (PROC2, "7.2", 0x0653_7BFF << 32),
        (EPT_VPID, "4.19", 0x0F01_0633_4041),
        (EPT_VPID, "7.1", 0x0F01_0633_4041),
        (EPT_VPID, "7.2", 0x0F01_0673_4041),
        (VMFUNC, "4.19", 1),
    ],
)
def test_a_capability_msr_of_a_full_processor_by_release(index, release, value):
    assert value == msr("arrow-lake", release, index)


@pytest.mark.parametrize(("release", "walk_5"), [("5.6", 0), ("5.7", 1 << 7)])
def test_a_page_walk_length_of_5_is_offered_from_5_7_on(release, walk_5):
    assert 0x0F01_0633_4041 | walk_5 == msr("sapphire-rapids", release, EPT_VPID)


@pytest.mark.parametrize(("release", "umip"), [("5.19", 0), ("6.0", 1 << 11)])
def test_cr4_fixed1_gains_umip_where_kvm_emulates_it(release, umip):
    assert 0x37_27FF | umip == msr("skylake-x", release, CR4_FIXED1)


@pytest.mark.parametrize(("release", "highest"), [("6.19", 0x32), ("7.0", 0x2E)])
def test_the_highest_field_depends_on_the_processor_from_7_0_on(release, highest):
    assert highest == msr("sapphire-rapids", release, VMCS_ENUM)


@pytest.mark.parametrize(
    ("release", "entry"), [("5.9", 0), ("5.10", 1 << 13), ("6.0", 1 << 13), ("6.1", 1 << 13)]
)
def test_perf_global_ctrl_of_an_early_processor(release, entry):
    assert 0x93FF | entry == msr("minimal-intel", release, ENTRY) >> 32


def test_perf_global_ctrl_needs_no_processor_from_6_1_on(tmp_path):
    made = json.loads(json.dumps(environment_of("arrow-lake", "7.2")))
    made["feature_msrs"]["0x484"] &= ~(1 << 13 + 32)
    made["feature_msrs"]["0x490"] &= ~(1 << 13 + 32)
    path = tmp_path / "no-perf.json"
    path.write_text(json.dumps(made))
    offered = {
        release: bool(msr(str(path), release, ENTRY) >> 32 & 1 << 13)
        for release in ("5.10", "6.0", "6.1")
    }

    assert {"5.10": False, "6.0": False, "6.1": True} == offered


@pytest.mark.parametrize("release", MAINLINE)
def test_the_early_class_has_no_ept_vpid_unrestricted_guest_or_apicv(release):
    made = host("minimal-intel", release, nested=True)
    ept, vpid, unrestricted, register, delivery = (1 << 32 + bit for bit in (1, 5, 7, 8, 9))

    assert 0 == made.feature_msrs[PROC2] & (ept | vpid | unrestricted | register | delivery)
    assert 0 == made.feature_msrs[EPT_VPID] == made.feature_msrs[VMFUNC]
    assert 0 == made.feature_msrs[TRUE_PIN] & 1 << 32 + 7
    assert not made.parameters.ept
    assert not made.parameters.unrestricted_guest


# Module parameters -------------------------------------------------------------------------------
@pytest.mark.parametrize("release", ["4.19", "5.10.262", "7.2.13"])
def test_nested_off_hides_vmx_and_its_msrs(release):
    made = host("skylake-x", release, nested=False)

    assert not made.cpuid.has("VMX")
    assert not any(BASIC <= index <= VMFUNC for index in made.feature_msrs)
    assert ARCH_CAPABILITIES in made.feature_msrs


@pytest.mark.parametrize(("release", "vmx"), [("4.19", False), ("4.20", True)])
def test_kvm_intel_nests_by_default_from_4_20_on(release, vmx):
    assert vmx == host("skylake-x", release).cpuid.has("VMX")


@pytest.mark.parametrize(("release", "revision"), [("5.6", 1), ("5.7", 0)])
def test_nested_off_hides_svm_and_from_5_7_on_its_leaf(release, revision):
    made = host("epyc-milan", release, nested=False)

    assert not made.cpuid.has("SVM")
    assert not made.cpuid.has("NPT")
    assert revision == made.cpuid.register(0x8000_000A, 0, 0)


def test_ept_off_takes_what_builds_on_it():
    made = host("arrow-lake", "7.2", nested=True, ept=False)
    gone = 1 << 32 + 1 | 1 << 32 + 7 | 1 << 32 + 17 | 1 << 32 + 22

    assert 0x0653_7BFF << 32 & ~gone == made.feature_msrs[PROC2]
    assert 0x0F01 << 32 == made.feature_msrs[EPT_VPID]
    assert 0 == made.feature_msrs[VMFUNC]
    assert not made.parameters.unrestricted_guest
    assert not made.cpuid.has("PKU")
    assert not made.cpuid.has("SHSTK")
    assert 0 == made.cpuid.register(0x8000_0008, 0, 0) >> 16


def test_unrestricted_guest_off_takes_its_control_and_cet():
    made = host("arrow-lake", "6.18", nested=True, unrestricted_guest=False)

    assert (0x0613_7BFF & ~(1 << 7)) << 32 == made.feature_msrs[PROC2]
    assert 0x007F_FFFF_0003_6DFB == made.feature_msrs[TRUE_EXIT]
    assert not made.cpuid.has("IBT")


def test_npt_and_vgif_off_are_not_shown():
    made = host("epyc-milan", "7.2.13", npt=False, vgif=False)

    assert 0x1000_0060 == made.cpuid.register(0x8000_000A, 0, 3)
    assert 0 == made.cpuid.register(0x8000_0008, 0, 0) >> 16


# CPUID by release --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("model", "release", "feature"),
    [
        ("arrow-lake", "5.0", "INTEL_STIBP"),
        ("arrow-lake", "5.1", "MOVDIR64B"),
        ("arrow-lake", "5.2", "MD_CLEAR"),
        ("arrow-lake", "5.4", "RDPID"),
        ("arrow-lake", "5.7", "WAITPKG"),
        ("arrow-lake", "5.9", "SERIALIZE"),
        ("arrow-lake", "5.12", "AVX_VNNI"),
        ("arrow-lake", "5.13", "BUS_LOCK_DETECT"),
        ("arrow-lake", "5.17", "ZERO_FCS_FDS"),
        ("arrow-lake", "6.3", "FSRS"),
        ("arrow-lake", "6.4", "FLUSH_L1D"),
        ("arrow-lake", "6.8", "LAM"),
        ("arrow-lake", "6.8", "BHI_CTRL"),
        ("arrow-lake", "6.13", "SHA512"),
        ("arrow-lake", "6.14", "HYPERVISOR"),
        ("arrow-lake", "6.18", "SHSTK"),
        ("sapphire-rapids", "5.3", "AVX512_BF16"),
        ("sapphire-rapids", "5.17", "AMX_TILE"),
        ("sapphire-rapids", "5.11", "AVX512_FP16"),
        ("epyc-milan", "4.19", "KVM_PV_SEND_IPI"),
        ("epyc-milan", "5.12", "SVME_ADDR_CHK"),
        ("epyc-milan", "5.17", "VMCBCLEAN"),
        ("epyc-milan", "5.19", "VGIF"),
        ("epyc-milan", "6.2", "NO_SMM_CTL_MSR"),
        ("epyc-milan", "6.8", "FLUSHBYASID"),
        ("epyc-milan", "7.2", "GP_ON_USER_CPUID"),
    ],
)
def test_a_feature_is_shown_from_its_release_on(model, release, feature):
    before = MAINLINE[MAINLINE.index(release) - 1]

    assert feature in shown(model, release)
    assert feature not in shown(model, before)


# Features that a later release shows no more: 6.0 hides performance monitoring where the counters
# do not work, 5.6 and 5.7 passed protection keys on for Intel only, and 7.0 ceased to show AMD's
# TSA bits unasked.
COME_AND_GO = {"PDCM", "PKU", "TSA_SQ_NO", "TSA_L1_NO"}


@pytest.mark.parametrize("model", CPU_MODELS)
def test_mainline_releases_only_add_features_but_for_the_known_ones(model):
    lost = set()
    for older, newer in pairwise(MAINLINE):
        lost |= shown(model, older) - shown(model, newer)

    assert lost <= COME_AND_GO


@pytest.mark.parametrize("model", INTEL_MODELS)
def test_mainline_releases_only_add_controls(model):
    controls = (PROC2, TRUE_PIN, TRUE_PROC, TRUE_EXIT, TRUE_ENTRY, EPT_VPID)
    lost = [
        (older, newer, hex(index))
        for older, newer in pairwise(MAINLINE)
        for index in controls
        if msr(model, older, index) & ~msr(model, newer, index)
    ]

    assert [] == lost


@pytest.mark.parametrize("model", CPU_MODELS)
def test_every_leaf_that_says_how_many_follow_is_followed_by_them(model):
    for name, kernel in RELEASES.items():
        cpuid = host_of(model, kernel).cpuid
        for first in (0x0, 0x8000_0000, 0x4000_0000):
            last = cpuid.register(first, 0, 0)
            leaves = {row.function for row in cpuid.rows if first <= row.function < first + 0x1000}

            assert set(range(first, last + 1)) == leaves, name


@pytest.mark.parametrize(
    ("release", "value"),
    [
        ("4.18", 0x0DF9_FD6B),
        ("5.4", 0x0DF9_FC6B),
        ("6.0", 0x0108_E06B),
        ("6.5", 0x0508_E06B),
        ("6.8", 0x0D18_E06B),
        ("6.15", 0x4000_0000_0D18_E06B),
    ],
)
def test_arch_capabilities_by_release(release, value):
    assert value == msr("arrow-lake", release, ARCH_CAPABILITIES)


@pytest.mark.parametrize(
    ("model", "release", "listed"),
    [
        ("skylake-x", "5.7", False),
        ("skylake-x", "5.8", True),
        ("epyc-milan", "5.8", False),
        ("epyc-milan", "5.9", True),
    ],
)
def test_perf_capabilities_is_a_feature_msr_from_5_8_and_5_9_on(model, release, listed):
    assert listed == (PERF_CAPABILITIES in host(model, release).feature_msrs)


@pytest.mark.parametrize(("release", "listed"), [("6.12", False), ("6.13", True)])
def test_platform_info_is_a_feature_msr_from_6_13_on(release, listed):
    assert listed == (PLATFORM_INFO in host("epyc-milan", release).feature_msrs)


@pytest.mark.parametrize(
    ("release", "xcr0"), [("5.16", 0x2E7), ("5.17", 0x2_02E7), ("6.3", 0x2_02E7), ("6.4", 0x2E7)]
)
def test_half_of_amx_state_is_shown_from_5_17_to_6_3(release, xcr0):
    assert xcr0 == host("sapphire-rapids", release).cpuid.register(0xD, 0, 0)


def test_cet_state_takes_room_in_the_compacted_area():
    cpuid = host("arrow-lake", "6.18").cpuid

    assert 0x348 + 0x10 + 0x18 == cpuid.register(0xD, 1, 1)
    assert 0x1800 == cpuid.register(0xD, 1, 2)


# The tables --------------------------------------------------------------------------------------
def test_a_feature_stands_where_the_rules_look_for_it():
    for feature in FEATURES:
        if feature.name in PLACE:
            word, bit = PLACE[feature.name]
            place = (WORD[word].function, WORD[word].subleaf, WORD[word].register, bit)

            assert (*feature[1:4], 1 << feature.bit) == place, feature.name


@pytest.mark.parametrize(
    ("fact", "known"),
    [
        ("cpuid", BY_RELEASE),
        ("cpuid_emulated", BY_RELEASE),
        ("cpuid_svm_hidden", BY_RELEASE | {"XSAVES"}),
        ("cpuid_vmx", VMX_ADDS.keys()),
        ("cpuid_svm", SVM_ADDS.keys()),
        ("vmx_controls", {row.name for row in OFFERED} | OTHER_BITS),
    ],
)
def test_releases_name_only_what_the_tables_know(fact, known):
    named = {name for kernel in RELEASES.values() for name in kernel.names(fact)}

    assert named <= set(known)


def test_what_the_tables_know_is_of_some_release():
    facts = ("cpuid", "cpuid_emulated", "cpuid_svm", "cpuid_vmx", "vmx_controls")
    named = {name for kernel in RELEASES.values() for fact in facts for name in kernel.names(fact)}
    known = BY_RELEASE | VMX_ADDS.keys() | SVM_ADDS.keys() | {row.name for row in OFFERED}

    assert known | OTHER_BITS == named


def test_bits_of_arch_capabilities_that_releases_add_are_known():
    named = {name for kernel in RELEASES.values() for name in kernel.names("arch_capabilities")}
    others = {"PSCHANGE_MC_NO", "SKIP_VMENTRY_L1DFLUSH"}
    hidden = {"TSX_CTRL_HIDDEN", "TSX_CTRL_HIDDEN_WITHOUT_RTM"}

    assert {row.name for row in FREE_OF} | others | hidden == named


def test_what_kvm_does_itself_is_something_that_it_adds():
    assert DONE_BY_KVM <= VMX_ADDS.keys() | SVM_ADDS.keys()


# Models ------------------------------------------------------------------------------------------
def environment_of(model, release):
    made = host_of(model, RELEASES[release], NESTED)
    return made.to_json()


def written(tmp_path, data):
    path = tmp_path / "model.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return str(path)


@pytest.mark.parametrize("name", CPU_MODELS)
def test_a_shipped_model_says_what_it_is_and_where_it_comes_from(name):
    model = cpu_model(name)

    assert model.title
    assert len(model.provenance) > 40


@pytest.mark.parametrize("release", ["5.10.262", "6.12.115", "7.2.13", "7.3"])
@pytest.mark.parametrize("name", CPU_MODELS)
def test_a_model_of_what_kvm_showed_is_shown_the_same_by_that_kvm(tmp_path, name, release):
    first = host_of(name, RELEASES[release], NESTED)
    again = host_of(written(tmp_path, first.to_json()), RELEASES[release], NESTED)

    assert first.cpuid == again.cpuid
    assert dict(first.feature_msrs) == dict(again.feature_msrs)


def test_a_recorded_environment_is_a_model(tmp_path):
    environment = recorded("vmx-6.12")["environment"]
    path = written(tmp_path, environment)
    made = host_of(path, RELEASES["6.12.115"])

    assert Cpuid(environment["cpuid"]) == made.cpuid
    assert not made.cpuid.register(1, 0, 2) >> 31
    assert host_of(path, RELEASES["6.18.15"]).cpuid.register(1, 0, 2) >> 31


def test_a_whole_recording_is_a_model(tmp_path):
    recording = {"vendor": "svm", "environment": recorded("svm-5.10")["environment"]}

    assert AMD == host_of(written(tmp_path, recording), RELEASES["5.10.262"]).vendor


def test_a_file_that_changes_is_read_again(tmp_path):
    data = environment_of("skylake-x", "6.12")
    path = written(tmp_path, data)
    before = host_of(path, RELEASES["6.12"])
    data["cpuid"] = [[*row[:2], *row[2:4], 0, 0] if row[0] == 1 else row for row in data["cpuid"]]
    written(tmp_path, json.dumps(data, indent=1))

    assert before.cpuid.has("PCID")
    assert not host_of(path, RELEASES["6.12"]).cpuid.has("PCID")


INTEL_LEAF_0 = [0, 0, 0x16, 0x756E_6547, 0x6C65_746E, 0x4965_6E69]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("{", "no CPU model: Expecting property name"),
        ([], "not a JSON object"),
        ({}, "'cpuid' is missing"),
        ({"cpuid": []}, "'cpuid' is missing"),
        ({"cpuid": [[0, 0, 1]]}, "row 0 of 'cpuid' is [0, 0, 1], not six numbers"),
        ({"cpuid": [[0, 0, 1 << 32, 0, 0, 0]]}, "row 0 of 'cpuid'"),
        ({"cpuid": [[0, 0, "x", 0, 0, 0]]}, "row 0 of 'cpuid'"),
        ({"cpuid": [INTEL_LEAF_0]}, "'msrs' (or 'feature_msrs') is missing"),
        ({"cpuid": [INTEL_LEAF_0, INTEL_LEAF_0], "msrs": {}}, "leaf 0x0, subleaf 0 twice"),
        ({"cpuid": [[1, 0, 0, 0, 0, 0]], "msrs": {}}, "lacks leaf 0"),
        ({"cpuid": [[0, 0, 0, 0, 0, 0]], "msrs": {}}, "neither Intel nor AMD"),
        ({"cpuid": [INTEL_LEAF_0], "msrs": {"abc": 0}}, "has the key 'abc', not an MSR index"),
        ({"cpuid": [INTEL_LEAF_0], "msrs": {"0x480": -1}}, "MSR 0x480 of 'msrs' is -1"),
        ({"cpuid": [INTEL_LEAF_0], "feature_msrs": {}}, "lacks the VMX capability MSR 0x480"),
    ],
)
def test_a_file_that_is_no_model_is_refused_with_the_reason(tmp_path, data, reason):
    path = written(tmp_path, data)
    with pytest.raises(InputError) as caught:
        cpu_model(path)

    assert reason in str(caught.value)
    assert str(caught.value).startswith(path)


@pytest.mark.parametrize(("key", "value"), [("bugs", "MDS"), ("bugs", [1]), ("pmu", 1)])
def test_a_model_with_a_wrong_key_is_refused(tmp_path, key, value):
    data = environment_of("epyc-milan", "6.12") | {key: value}
    with pytest.raises(InputError, match=f"'{key}' is"):
        cpu_model(written(tmp_path, data))


@pytest.mark.parametrize(
    ("fact", "member", "near"),
    [
        ("cpuid", "AVX512_FP61", "AVX512_FP16"),
        ("cpuid_svm", "VGIFF", "VGIF"),
        ("vmx_controls", "MODE_BASED_EXECUTE", "MODE_BASED_EXECUTE_CONTROL"),
    ],
)
def test_a_kernel_with_a_name_that_kvm_has_not_is_refused_with_the_nearest(fact, member, near):
    kernel = after(RELEASES["6.12"], "6.12-mine", Added(fact, member, seen="a user's file"))
    with pytest.raises(InputError) as caught:
        host_of("skylake-x", kernel)

    assert f"6.12-mine: {fact} has no {member!r}; known: {near}" in str(caught.value)


def test_a_kernel_of_the_user_offers_what_it_adds():
    added = Added("vmx_controls", "MODE_BASED_EXECUTE_CONTROL", seen="a user's file")
    kernel = after(RELEASES["6.12"], "6.12-mine", added)

    assert 0x0253_7BFF << 32 == host_of("skylake-x", kernel).feature_msrs[PROC2]


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(InputError) as caught:
        host_of("pentium", RELEASES["6.12"])

    assert all(name in str(caught.value) for name in ("pentium", *CPU_MODELS))


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.json: no CPU model: No such file"):
        cpu_model(str(tmp_path / "none.json"))


def test_a_host_is_made_once_for_releases_that_show_the_same():
    assert host_of("skylake-x", RELEASES["5.14"]) is host_of("skylake-x", RELEASES["5.15"])


@pytest.mark.parametrize("name", CPU_MODELS)
def test_a_host_survives_its_json_form(name):
    made = host_of(name, RELEASES["7.2"])
    again = Host.from_json(json.loads(json.dumps(made.to_json())))

    assert made.cpuid == again.cpuid
    assert dict(made.feature_msrs) == dict(again.feature_msrs)
    assert made.parameters == again.parameters
