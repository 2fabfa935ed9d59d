"""What the kernels were found to do, release by release, against what the release rows resolve to.

The tables were written from the kernel trees alone: a row says what holds from which mainline
release on.  `STABLE` says where a distribution's stable tree differs from the mainline release of
its number; what neither says of a stable tree is as in that release.
"""

from itertools import pairwise

import pytest

from emu.releases import RELEASES, release

MAINLINE = (
    *("4.18", "4.19", "4.20", *(f"5.{minor}" for minor in range(20))),
    *(f"6.{minor}" for minor in range(20)),
    *("7.0", "7.1", "7.2", "7.3"),
)
BASE = {
    "5.10.262": "5.10",
    "6.1.192": "6.1",
    "6.12.115": "6.12",
    "6.18.15": "6.18",
    "7.2.13": "7.2",
}


def since(first, until=None):
    """True from release `first` on, up to the one before `until`."""
    steps = {"4.18": False, first: True}
    return steps | {until: False} if until else steps


def until(first):
    """True up to the release before `first`."""
    return {"4.18": True, first: False}


def number(fact):
    return lambda kernel: kernel.number(fact)


def has(fact, *members):
    """Whether the kernel has all of `members`: True or False, and neither where it has a part."""

    def read(kernel):
        found = {kernel.has(fact, member) for member in members}
        return found.pop() if len(found) == 1 else "a part of them"

    return read


def does(*behaviours):
    return has("behaviours", *behaviours)


def flag_mask(kernel):
    bits = {"GUEST_MODE": 1, "RUN_PENDING": 2, "EVMCS": 4, "MTF_PENDING": 8, "GIF_SET": 0x100}
    return sum(
        bits[name.removeprefix("KVM_STATE_NESTED_")] for name in kernel.names("nested_flags")
    )


def empty_rule(kernel):
    """What becomes of a state that is too short for a vmcs12, and what too short is."""
    rules = kernel.names("vmx_rules")
    size = kernel.number("vmcs12_minimum_size")
    if "size_covers_vmcs12" in rules:
        return f"refused below {size}"
    strict = {"guest_mode_needs_vmcs12", "evmcs_needs_vmcs12", "vmcs12_pa_needs_vmcs12"}
    if "vmxon_without_vmcs12" not in rules:
        return ""
    return f"{'strict' if strict <= rules else 'silent'} below {size}"


def evmcs(kernel):
    rules = kernel.names("vmx_rules")
    if "enable_evmcs" in rules:
        return "enables"
    if "evmcs_needs_capability" not in rules:
        return "none"
    parts = ["requires"]
    parts += ["lazy"] if "request_evmcs_page" in rules else []
    parts += ["pending"] if "mark_evmcs_map_pending" in rules else []
    return "+".join(parts)


def mtf(kernel):
    accepted = kernel.has("nested_flags", "KVM_STATE_NESTED_MTF_PENDING")
    stored = kernel.has("vmx_rules", "set_mtf_pending")
    given = kernel.does("gives_mtf_pending")
    return "".join("y" if it else "n" for it in (given, stored, accepted))


def size_without_nested(vendor):
    def read(kernel):
        still = kernel.does(f"{vendor}_ioctls_without_nested")
        return kernel.number(f"{vendor}_maximum_size") if still else 0

    return read


def gif(kernel):
    """When SET takes the GIF of a state in guest mode: before L2 is entered, after, or not."""
    before = kernel.has("svm_rules", "set_gif_before_entry")
    after = kernel.has("svm_rules", "set_gif_after_entry")
    return "before" if before else "after" if after else ""


def l2_cr3(kernel):
    """When SET checks the CR3 that the vCPU has for L2 on AMD."""
    before = kernel.has("svm_rules", "vcpu_cr3_width")
    after = kernel.has("svm_rules", "vcpu_cr3_width_after_entry")
    return "before" if before else "after" if after else ""


def svm_bytes(kernel):
    return kernel.number("svm_control_bytes"), kernel.number("svm_save_bytes")


def cet(kernel):
    checks = {
        "host_s_cet_reserved",
        "host_ssp_aligned",
        "guest_s_cet_reserved",
        "guest_ssp_aligned",
    }
    fields = {"host_s_cet", "host_ssp", "host_ssp_tbl", "guest_s_cet", "guest_ssp", "guest_ssp_tbl"}
    controls = {"LOAD_CET_STATE_ENTRY", "LOAD_CET_STATE_EXIT"}
    found = {
        checks <= kernel.names("vmx_rules"),
        fields <= kernel.names("vmcs12_fields"),
        controls <= kernel.names("vmx_controls"),
    }
    return found.pop() if len(found) == 1 else "a part of it"


PDPTE_RULES = ("l2_pdptes_backed", *(f"l2_pdpte{i}_reserved" for i in range(4)), "load_l2_pdptrs")
INVALID_GUEST_STATE = ("l2_cs_usable", "l2_ss_type", "l2_tr_type", "l2_ldtr_type")
RPL_TI = tuple(f"host_{s}_rpl_ti" for s in ("cs", "ss", "ds", "es", "fs", "gs", "tr"))
BASES = tuple(f"host_{s}_base_canonical" for s in ("fs", "gs", "gdtr", "idtr", "tr"))
HOST_64 = ("legacy_mode_excludes_64_bit_host", "long_mode_needs_64_bit_host")
PAGING = ("guest_paging_needs_protection", "guest_ia32e_needs_pae", "guest_ia32e_needs_paging")
COUNTS = ("exit_msr_load_count", "exit_msr_store_count", "entry_msr_load_count")
SAVED_L1 = (
    *("cr0_pe", "rflags_vm", "cr0_nw_without_cd", "cr0_upper_half", "dr6_upper_half"),
    *("dr7_upper_half", "long_mode_needs_pae", "cr3_width_in_long_mode", "cr4_reserved"),
    *("efer_reserved", "move_registers_to_vmcb02", "load_l1_into_vmcb01"),
)
VMX, SVM = "vmx_rules", "svm_rules"

# fmt: off
PINS = (
    # Ioctls and layout.
    ("flag mask", flag_mask, {"4.18": 0, "4.19": 0x003, "4.20": 0x007, "5.7": 0x00F, "5.8": 0x10F}),
    ("VMX size", number("vmx_maximum_size"), {"4.18": 0, "4.19": 8320}),
    ("VMX size, nested=0", size_without_nested("vmx"), {"4.18": 0, "5.8": 8320, "7.2": 0}),
    ("SVM size", number("svm_maximum_size"), {"4.18": 0, "5.8": 4224}),
    ("SVM size, nested=0", size_without_nested("svm"), {"4.18": 0, "5.8": 4224, "7.2": 0}),
    ("VMX nested by default", does("vmx_nested_by_default"), since("4.20")),
    ("bytes of vmcs12 out", number("vmcs12_bytes_out"), {"4.18": 0, "4.19": 998, "5.0": 4096}),
    ("empty rule", empty_rule,
     {"4.18": "", "4.19": "refused below 1006", "4.20": "silent below 1006",
      "5.1": "silent below 1126", "5.8": "strict below 1126"}),
    ("shadow size", number("shadow_minimum_size"),
     {"4.18": 0, "4.19": 2004, "5.1": 2124, "5.2": 5222}),
    ("eVMCS", evmcs,
     {"4.18": "none", "4.20": "enables", "5.2": "requires", "5.7": "requires+lazy",
      "5.14": "requires+lazy+pending"}),
    ("eVMCS flag when enabled", does("evmcs_flag_means_enabled"), since("4.20", until="5.2")),
    ("eVMCS needs CONFIG_KVM_HYPERV", has(VMX, "evmcs_needs_hyperv"), since("6.8")),
    ("eVMCS takes bits from the MSRs", does("evmcs_narrows_msrs"), since("4.20", until="5.6")),
    ("eVMCS checks controls", has(VMX, "evmcs_vm_functions"), since("5.6")),
    ("eVMCS asks without CPUID", does("evmcs_without_hyperv_cpuid"), since("4.20", until="6.1")),
    ("eVMCS checks primary controls", has(VMX, "evmcs_proc_supported"), since("6.3")),
    ("MTF given, stored, accepted", mtf, {"4.18": "nnn", "5.6": "yyn", "5.7": "yyy"}),
    ("deadline", has("vmx_header", "flags", "preemption_timer_deadline"), since("5.8")),
    ("header flags checked", has(VMX, "vmx_header_flags_known", "set_deadline"), since("5.8")),
    ("gpat", has("svm_header", "gpat"), since("7.2")),
    ("dead CR3 targets", has("vmcs12_fields", "dead_space"), since("5.8")),
    ("encls_exiting_bitmap", has("vmcs12_fields", "encls_exiting_bitmap"), since("5.13")),
    ("tsc_multiplier", has("vmcs12_fields", "tsc_multiplier"), since("5.14")),
    # VMX: SET.
    ("entry failure", number("entry_failure_status"), {"4.18": 0, "4.19": -22, "5.2": 1, "5.4": 2}),
    ("any flag fails in SMM", has(VMX, "no_flags_in_smm"), since("4.19", until="5.2")),
    ("guest mode fails in SMM", has(VMX, "no_guest_mode_in_smm"), since("5.2")),
    ("flags fail without VMXON", has(VMX, "flags_without_vmxon"), since("5.2")),
    ("nothing to do without CPUID.VMX", has(VMX, "nothing_without_guest_vmx"),
     since("4.19", until="5.2")),
    ("a refusal keeps RUN_PENDING", does("refusal_keeps_run_pending"), since("4.19", until="5.2")),
    ("leaving drops the page request", does("leaving_drops_page_request"), since("5.3")),
    ("a VM exit drops the page request", does("vmexit_drops_page_request"), since("5.11")),
    ("unchanged CR3 unchecked", has(VMX, "l2_new_cr3_width", "l2_cr3_width_with_new_pdptrs"),
     since("4.19", until="5.8")),
    ("every CR3 checked", has(VMX, "l2_cr3_width"), since("5.8")),
    ("PDPTEs loaded by SET", has(VMX, *PDPTE_RULES), since("4.19", until="5.14")),
    ("invalid guest state fails", has(VMX, *INVALID_GUEST_STATE), since("4.19", until="5.15")),
    ("L1's DEBUGCTL by control alone", does("keeps_l1_msrs_by_control_alone"),
     since("4.19", until="6.0")),
    ("a VM exit drops MTF", does("vmexit_drops_mtf"), since("6.1")),
    # VMX: checks of VM entry.
    ("EPTP checked on entry only", has(VMX, "eptp_memory_type_on_entry", "eptp_reserved_on_entry"),
     since("4.19", until="4.20")),
    ("EPTP checked", has(VMX, "eptp_memory_type", "eptp_walk_length", "eptp_reserved"),
     since("4.20")),
    ("EPTP of 5 levels", does("eptp_walk_of_5"), since("5.7")),
    ("posted descriptor on its own page", has(VMX, "posted_descriptor_page_aligned"),
     since("4.19", until="4.20")),
    ("unrestricted needs EPT",
     has(VMX,
           "unrestricted_guest_needs_ept", "mode_based_execute_needs_ept",
           "save_preemption_timer_needs_timer"),
     since("5.0")),
    ("SYSENTER and PAT",
     has(VMX,
           "host_sysenter_esp_canonical", "host_sysenter_eip_canonical",
           "host_pat_memory_types", "guest_pat_memory_types"),
     since("5.2")),
    ("host selectors and bases",
     has(VMX, *RPL_TI, *BASES, "host_cs_not_null", "host_tr_not_null", "host_ss_not_null"),
     since("5.3")),
    ("host64 is EFER.LMA of now", has(VMX, *HOST_64), since("5.4", until="5.16")),
    ("host64 rules",
     has(VMX, "host_64_needs_pae", "host_32_excludes_pcide", "host_32_rip_upper_half"),
     since("5.4")),
    ("error code of 15 bits", has(VMX, "error_code_bit_15"), since("4.19", until="5.4")),
    ("PERF_GLOBAL_CTRL checked",
     has(VMX, "host_perf_global_ctrl_reserved", "guest_perf_global_ctrl_reserved"),
     since("5.5")),
    ("DR7 upper half", has(VMX, "guest_dr7_upper_half"), since("5.6")),
    ("WAIT_SIPI", has(VMX, "guest_activity_known"), since("5.11")),
    ("ACTIVE and HLT only", has(VMX, "guest_activity_active_or_hlt"), since("4.19", until="5.11")),
    ("GET gives WAIT_SIPI", does("syncs_wait_for_sipi"), since("5.11")),
    ("PG needs PE", has(VMX, *PAGING), since("6.3")),
    ("LAM in CR3", does("cr4_lam"), since("6.8")),
    ("canonical for the host", does("canonical_by_host_width"), since("6.13")),
    ("RIP canonical for the vCPU", has(VMX, "host_rip_canonical_for_vcpu"),
     since("5.4", until="6.13")),
    ("RIP canonical for host CR4", has(VMX, "host_rip_canonical_48", "host_rip_canonical_57"),
     since("6.13")),
    ("MSR list counts", has(VMX, *COUNTS), since("6.16")),
    ("guest DEBUGCTL", has(VMX, "guest_debugctl_reserved"), since("6.17")),
    ("FREEZE_IN_SMM quirk", does("debugctl_freeze_in_smm_quirk"), since("7.0")),
    ("CET", cet, since("6.18")),
    ("CR4.CET needs WP", has(VMX, "host_cet_needs_wp", "guest_cet_needs_wp"), since("6.18")),
    ("exact error codes", has(VMX, "error_code_wanted", "error_code_unwanted"),
     since("4.19", until="6.18")),
    ("error codes free with BASIC bit 56",
     has(VMX, "error_code_wanted_with_cet", "error_code_unwanted_with_cet"),
     since("6.18")),
    ("TPR threshold, TSC multiplier", has(VMX, "tpr_threshold_reserved", "tsc_multiplier_not_zero"),
     since("6.19")),
    # VMX: GET.
    ("GET cancels the timer", does("get_cancels_timer"), since("4.19", until="5.1")),
    ("rare fields flushed", does("flushes_rare_on_get"),
     {"4.18": False, "4.19": True, "5.3": False, "5.11": True}),
    ("DEBUGCTL and PAT synced", does("syncs_debugctl", "syncs_pat"), since("4.19", until="5.3")),
    ("PDPTRs synced always", does("syncs_pdptrs_always"), since("4.19", until="5.3")),
    ("BNDCFGS synced", does("syncs_bndcfgs"), since("4.19", until="6.0")),
    ("timer kept while pending", does("keeps_timer_while_pending"), since("5.8")),
    # VMX: capability MSRs.
    ("MSRs only narrow", does("capability_msrs_only_narrow"), until("6.0")),
    ("VMFUNC MSR writable", does("vmfunc_msr_writable"), since("5.3")),
    ("MSRs fixed in guest mode", does("feature_msrs_fixed_in_guest_mode"), since("7.0")),
    ("CPUID fixed in guest mode", does("cpuid_fixed_in_guest_mode"), since("7.0")),
    ("FEATURE_CONTROL without CPUID", does("feature_control_ignores_cpuid"), since("6.2")),
    ("controls of CPUID in the base",
     has("vmx_controls",
           "ENABLE_RDTSCP", "ENABLE_INVPCID", "RDRAND_EXITING", "RDSEED_EXITING",
           "ENABLE_XSAVES_XRSTORS"),
     since("5.3")),
    ("user wait", has("vmx_controls", "ENABLE_USER_WAIT_AND_PAUSE"), since("6.2")),
    ("ENCLS exiting", has("vmx_controls", "ENABLE_ENCLS_EXITING"), since("5.13")),
    ("TSC scaling", has("vmx_controls", "USE_TSC_SCALING", "COMPUTED_VMCS_ENUM"), since("5.14")),
    ("mode-based execute",
     has("vmx_controls", "MODE_BASED_EXECUTE_CONTROL", "EPT_ADVANCED_EXIT_INFORMATION"),
     since("7.2")),
    ("EPT walk of 5", has("vmx_controls", "EPT_PAGE_WALK_5"), since("5.7")),
    ("MISC bit 8", has("vmx_controls", "ACTIVITY_WAIT_SIPI"), since("5.11")),
    ("BASIC bit 56", has("vmx_controls", "NO_HW_ERROR_CODE_CC"), since("6.18")),
    ("UMIP in CR4_FIXED1", has("vmx_controls", "EMULATED_UMIP_IN_CR4"), since("6.0")),
    # The row of 4.18 itself comes from a tree that nothing else here is compared with.
    ("BNDCFGS in the base",
     has("vmx_controls", "LOAD_IA32_BNDCFGS_ENTRY", "CLEAR_IA32_BNDCFGS_EXIT"),
     {"4.19": False, "5.10": True}),
    ("BNDCFGS by CPUID", does("bndcfgs_follow_cpuid"), until("6.0")),
    ("PERF_GLOBAL_CTRL by PMU", does("perf_global_ctrl_follows_pmu"), since("5.5", until="6.0")),
    ("exit PERF_GLOBAL_CTRL stays", does("pmu_never_narrows_exit"), since("5.5", until="5.9")),
    ("PERF_GLOBAL_CTRL always",
     has("vmx_controls", "PERF_GLOBAL_CTRL_ALWAYS_ENTRY", "PERF_GLOBAL_CTRL_ALWAYS_EXIT"),
     since("6.1")),
    ("INVPCID control needs PCID", does("invpcid_needs_pcid"), until("5.12")),
    # SVM.
    ("GIF of a state in guest mode", gif,
     {"4.18": "", "5.8": "after", "5.10": "", "5.13": "before"}),
    ("RUN_PENDING restored", has(SVM, "set_run_pending"), since("5.11")),
    ("saved EFER.SVME", has(SVM, "efer_svme"), since("5.12")),
    ("saved L1 checked and loaded", has(SVM, *SAVED_L1), since("5.13")),
    ("L2 left first", has(SVM, "leave_guest_mode"), since("5.13")),
    ("all of the save area kept", has(SVM, "keep_l1_in_hsave"), since("5.8", until="5.13")),
    ("save area", has("svm_save", "whole"), since("5.8", until="5.13")),
    ("two blocks", does("svm_two_blocks"), since("5.13")),
    ("MSR bitmap read by SET", has(SVM, "msrpm_in_memory"), since("5.9", until="5.10")),
    ("page request", has(SVM, "request_pages"), since("5.10")),
    ("bitmaps' next page", has(SVM, "msrpm_next_page_width", "iopm_next_page_width"),
     since("5.13", until="5.17")),
    ("bitmaps' width", has(SVM, "msrpm_width", "iopm_width"), since("5.17")),
    ("L2's CR3", l2_cr3, {"4.18": "", "5.14": "before", "5.17": "after"}),
    ("TLB_CTL 0 or 1", has(SVM, "tlb_ctl_known"), since("5.16", until="6.7")),
    ("next_rip", has("svm_control", "next_rip"), since("6.0")),
    ("V_NMI", has(SVM, "v_nmi_needs_nmi_intercept"), since("6.4")),
    ("SVME clear: exactly GIF", has(SVM, "without_svme_only_gif"), since("5.8", until="7.0")),
    ("SVME clear: GIF or nothing", has(SVM, "without_svme_no_guest"), since("7.0")),
    ("NP on a host without", has(SVM, "nested_paging_on_host"), since("5.8", until="7.1")),
    ("NP cleared", has("svm_legalized", "misc_ctl_np_7_2", "tlb_ctl_7_2", "event_inj_7_2"),
     since("7.1")),
    ("intercepts cleared", has("svm_legalized", "intercept_rdtscp_7_2", "intercept_xsetbv_7_2"),
     since("7.0")),
    ("nested CR3, CS.L and CS.D", has(SVM, "ncr3_width", "cs_l_and_d"), since("7.1")),
    ("event injection", has(SVM, "event_inj_type", "event_inj_vector"), since("7.1")),
    ("CET registers", has("svm_save", "cet"), since("6.18")),
    ("LBR registers", has("svm_save", "lbr"), since("7.1")),
    ("erap_ctl", has("svm_control", "erap_ctl"), since("7.0")),
    ("PAT of its own", has(SVM, "gpat_types", "load_gpat"), since("7.2")),
    ("saved LMA needs LME", has(SVM, "efer_lma_with_lme"), since("7.3")),
    ("bytes of control and save", svm_bytes,
     {"4.18": (0, 0), "5.8": (256, 664), "5.10": (256, 1032), "5.11": (272, 1032),
      "5.14": (1024, 1032), "5.19": (1024, 740), "6.6": (1024, 744)}),
    ("any EFER without SVME sets GIF", does("svm_efer_without_svme_sets_gif"),
     since("5.8", until="5.10")),
    ("clearing SVME sets GIF", does("svm_clearing_svme_sets_gif"), since("5.8", until="7.0")),
    ("leaving L2 sets GIF", does("svm_leave_nested_sets_gif"), since("7.0")),
    # Registers, events, capabilities.
    ("OSXSAVE alone", has("sregs_rules", "sregs_cr4_osxsave"), until("5.4")),
    ("CR4 by CPUID", has("sregs_rules", "sregs_cr4_reserved"), since("5.4")),
    ("CR4 by the host", does("cr4_needs_host_feature"), since("5.6")),
    ("VMXE by CPUID", does("cr4_vmxe_needs_cpuid"), since("5.9")),
    ("CR4 of VMX, CR3 width",
     has("sregs_rules",
           "sregs_cr4_vmxe_in_smm", "sregs_cr4_vmx_fixed", "sregs_long_mode_cr3_width"),
     since("5.11")),
    ("bad CR4 dropped", does("sregs_drops_invalid_cr4"), until("5.11")),
    ("CR0",
     has("sregs_rules",
           "sregs_cr0_high_half", "sregs_cr0_nw_needs_cd", "sregs_cr0_pg_needs_pe",
           "sregs_cr0_vmx_fixed"),
     since("6.5")),
    ("EFER", has("sregs_rules", "sregs_efer_reserved"), since("7.2")),
    ("CR4.CET", does("cr4_cet"), since("6.18")),
    ("AUTOIBRS", does("efer_autoibrs"), since("6.3")),
    ("SMM leaves nested", does("smm_change_leaves_nested"), since("5.17")),
    ("events mind INIT", does("events_mind_latched_init", "mp_state_minds_latched_init"),
     until("6.17")),
    ("INIT latched in SMM only", does("latched_init_only_in_smm"), until("5.5")),
    ("the vendor latches INIT", does("vendor_latches_init"), since("5.5")),
    ("no exception in L2", does("events_refuse_exception_in_l2"), until("4.20")),
    ("GET delivers payloads", does("get_events_delivers_payload"), since("5.6")),
    ("MP_STATE values", does("mp_state_checks_value"), since("6.0")),
    ("NESTED_STATE", has("capabilities", "KVM_CAP_NESTED_STATE"), since("4.19")),
    ("eVMCS, payload capabilities",
     has("capabilities", "KVM_CAP_HYPERV_ENLIGHTENED_VMCS", "KVM_CAP_EXCEPTION_PAYLOAD"),
     since("4.20")),
    ("ENFORCE_PV", has("capabilities", "KVM_CAP_ENFORCE_PV_FEATURE_CPUID"), since("5.10")),
    ("SREGS2", has("capabilities", "KVM_CAP_SREGS2"), since("5.14")),
    ("XSAVE2", has("capabilities", "KVM_CAP_XSAVE2"), since("5.17")),
    ("DISABLE_QUIRKS2", has("capabilities", "KVM_CAP_DISABLE_QUIRKS2"), since("5.18")),
    ("TRIPLE_FAULT_EVENT", has("capabilities", "KVM_CAP_X86_TRIPLE_FAULT_EVENT"), since("6.0")),
)

# What the stable trees took from later releases, or never had.
STABLE = {
    "5.10.262": {
        "saved EFER.SVME": True, "host64 is EFER.LMA of now": False, "PG needs PE": True,
        "rare fields flushed": True, "L1's DEBUGCTL by control alone": False,
        "a VM exit drops the page request": True, "MSRs only narrow": False,
        "SMM leaves nested": True, "bad CR4 dropped": False, "CR4 of VMX, CR3 width": True,
        "L2 left first": True,
    },
    "6.1.192": {
        "PG needs PE": True, "guest DEBUGCTL": True, "TLB_CTL 0 or 1": False, "CR0": True,
        "nested CR3, CS.L and CS.D": True, "user wait": True,
    },
    "6.12.115": {
        "guest DEBUGCTL": True, "FREEZE_IN_SMM quirk": True, "CR4.CET needs WP": True,
        "canonical for the host": True, "EFER": True, "nested CR3, CS.L and CS.D": True,
        "LBR registers": True,
    },
    "6.18.15": {},
    "7.2.13": {},
}
# fmt: on


def expected(name, steps, stable):
    """The value of a row for the release `name`; None where the row does not begin yet."""
    mainline = BASE.get(name, name)
    if name in stable:
        return stable[name]
    at = MAINLINE.index(mainline)
    found = None
    for first, value in steps.items():
        if MAINLINE.index(first) <= at:
            found = value
    return found


def test_the_table_knows_every_release():
    assert {*MAINLINE, *BASE} == set(RELEASES)
    assert BASE == {name: kernel.base.name for name, kernel in RELEASES.items() if kernel.stable}
    assert {pin for differences in STABLE.values() for pin in differences} <= {p[0] for p in PINS}


@pytest.mark.parametrize(("pin", "read", "steps"), PINS, ids=[pin[0] for pin in PINS])
def test_a_change_happened_in_the_pinned_release(pin, read, steps):
    stable = {name: rows[pin] for name, rows in STABLE.items() if pin in rows}
    wanted = {name: expected(name, steps, stable) for name in RELEASES}

    assert {name: value for name, value in wanted.items() if value is not None} == {
        name: read(kernel) for name, kernel in RELEASES.items() if wanted[name] is not None
    }


def test_every_step_of_the_table_is_a_change():
    for pin, _, steps in PINS:
        for (_, before), (at, after) in pairwise(steps.items()):
            assert (pin, at, True) == (pin, at, before != after)


@pytest.mark.parametrize("name", ["6.9", "6.10", "6.14", "6.15"])
def test_releases_without_a_change_of_nested_state_add_no_rule(name):
    """No check of nested state changed there: what differs is what CPUID shows."""
    added = {difference.fact for difference in release(name).differences}

    assert not added & {"vmx_rules", "svm_rules", "nested_flags", "vmx_header", "svm_header"}
