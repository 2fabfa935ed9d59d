"""VMRUN's consistency checks as the manual's sentences read, in plain Python: an oracle.

Takes the words by name and returns the names of the conditions that make the state illegal.
"""

VALID_TYPES = (0, 2, 3, 4)
PAT_TYPES = (0, 1, 4, 5, 6, 7)


def bit(word, number):
    return word >> number & 1


def last_byte_beyond(base, size, reserved):
    """Whether a table of `size` bytes at page `base` reaches the first unsupported address."""
    limit = reserved & -reserved
    return (base & ~0xFFF) + size > limit


def illegal(w):
    names = set()

    def when(name, condition):
        if condition:
            names.add(name)

    efer, cr0, cr3, cr4 = w["EFER"], w["CR0"], w["CR3"], w["CR4"]
    svme, lma, lme = bit(efer, 12), bit(efer, 10), bit(efer, 8)
    pe, wp, nw, cd, pg = bit(cr0, 0), bit(cr0, 16), bit(cr0, 29), bit(cr0, 30), bit(cr0, 31)
    pae, cet = bit(cr4, 5), bit(cr4, 23)
    cs_l, cs_d = bit(w["CS.ATTRIB"], 9), bit(w["CS.ATTRIB"], 10)
    features = w["SVM_FEATURES"]
    nested = bit(w["MISC_CTL"], 0) and bit(features, 0)

    when("efer_svme", not svme)
    when("cr0_nw_without_cd", not cd and nw)
    when("cr0_upper_half", cr0 >> 32)
    when("cr3_reserved", cr3 & w["CR3_RESERVED"])
    when("cr4_reserved", cr4 & w["CR4_RESERVED"])
    when("dr6_upper_half", w["DR6"] >> 32)
    when("dr7_upper_half", w["DR7"] >> 32)
    when("efer_reserved", efer & w["EFER_RESERVED"])
    when("efer_needs_long_mode", (lma or lme) and not w["LONG_MODE"])
    when("long_mode_needs_pae", lme and pg and not pae)
    when("long_mode_needs_pe", lme and pg and not pe)
    when("cs_l_and_d", lme and pg and pae and cs_l and cs_d)
    when("vmrun_intercept", not bit(w["INTERCEPTS_4"], 0))
    when("msrpm_width", last_byte_beyond(w["MSRPM_BASE_PA"], 8192, w["PHYSICAL_RESERVED"]))
    when("iopm_width", last_byte_beyond(w["IOPM_BASE_PA"], 12288, w["PHYSICAL_RESERVED"]))

    injects, kind, vector = bit(w["EVENT_INJ"], 31), w["EVENT_INJ"] >> 8 & 7, w["EVENT_INJ"] & 0xFF
    exception = injects and kind == 3
    known = vector < 64 and bit(w["EXCEPTION_VECTORS"], vector)
    when("event_inj_type", injects and kind not in VALID_TYPES)
    when("event_inj_vector", exception and not known)
    when("event_inj_br_in_64_bit_mode", exception and vector == 5 and lme and pg and cs_l)
    when("asid_not_zero", w["ASID"] == 0)
    when("s_cet_reserved", w["S_CET"] & w["S_CET_RESERVED"])
    when("cet_needs_wp", cet and not wp)
    when("cet_excludes_virtual_8086", cet and bit(w["U_CET"], 0) and bit(w["RFLAGS"], 17))

    sev = bit(w["MISC_CTL"], 1) and w["MEM_ENCRYPTION"]
    sev_es = sev and bit(w["MISC_CTL"], 2)
    when("u_cet_reserved", sev_es and w["U_CET"] & w["U_CET_RESERVED"])
    for n in range(4):
        entry = w[f"PDPE{n}"]
        read = pg and pae and not lme and not nested and entry & 1
        when(f"pdpe{n}_reserved", read and entry & w["PDPE_RESERVED"])
    v_nmi = bit(w["INT_CTL"], 26) and bit(features, 25)
    when("v_nmi_needs_nmi_intercept", v_nmi and not bit(w["INTERCEPTS_3"], 1))

    when("np_needs_host_paging", nested and not bit(w["HOST_CR0"], 31))
    when("ncr3_reserved", nested and w["NESTED_CR3"] & w["NCR3_RESERVED"])
    types = w["G_PAT"].to_bytes(8, "little")
    when("g_pat_memory_types", nested and any(kind not in PAT_TYPES for kind in types))
    when("sss_needs_np", bit(w["MISC_CTL"], 4) and bit(features, 19) and not nested)

    avic = bit(w["INT_CTL"], 31) and bit(features, 13)
    x2avic = bit(w["INT_CTL"], 30) and bit(features, 18)
    index = w["AVIC_PHYSICAL_ID"] & 0xFFF
    beyond = w["PHYSICAL_RESERVED"]
    when("x2avic_needs_avic", x2avic and not bit(w["INT_CTL"], 31))
    when("avic_backing_page_width", avic and w["AVIC_BACKING_PAGE"] & beyond)
    when("avic_logical_id_width", avic and not x2avic and w["AVIC_LOGICAL_ID"] & beyond)
    when("avic_physical_id_width", avic and w["AVIC_PHYSICAL_ID"] & beyond)
    when("xavic_max_index", avic and not x2avic and index > 255)
    extended = bit(w["SVM_FEATURES_ECX"], 6)
    when("x2avic_max_index", avic and x2avic and not extended and index > 511)

    when("sev_needs_np", sev and not nested)
    when("sev_needs_smm_lock", sev and not w["SMM_LOCK"])
    when("sev_asid", sev and w["ASID"] > w["SEV_ASIDS"])
    needs_64 = sev and w["SEV_NEEDS_64_BIT_HOST"]
    when("sev_needs_64_bit_host", needs_64 and not w["HOST_IN_64_BIT_MODE"])
    when("sev_es_software_interrupt", sev_es and injects and kind == 4)
    when("sev_es_bp_or_of", sev_es and exception and vector in (3, 4))
    return names
