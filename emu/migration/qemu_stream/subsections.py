"""The subsections of the `cpu` section: which QEMU knows, in save order, with their fields.

A subsection is conditional state: its bytes are in the stream only when its condition held on the
source, and a destination that does not know its name refuses the stream (ENOENT).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from emu.migration.qemu_stream.cursor import Cursor
from emu.migration.qemu_stream.description import subsection_size
from emu.migration.qemu_stream.errors import StreamError
from emu.migration.qemu_stream.fields import (
    FieldRow,
    Value,
    decode,
    describe,
    element_size,
    encode,
    peek_subsection,
    read_subsection_header,
    size_of,
    subsection_header,
)
from emu.migration.qemu_stream.nested import NESTED_STATE, NestedState
from vmcs.schema import check_unique

EXCEPTION_INFO = "cpu/exception_info"
FEATURE_CONTROL = "cpu/msr_ia32_feature_control"
PDPTRS = "cpu/pdptrs"
TSC_KHZ = "cpu/tsc_khz"


@dataclass(frozen=True)
class SubsectionField:
    """One field of a known subsection of `cpu` (names without "cpu/" and "env.")."""

    subsection: str
    name: str
    type: str
    count: int = 1


# QEMU 8.2, target/i386/machine.c: vmstate_x86_cpu and the vmstate_* that it lists, x86-64, with
# KVM; msr_pl0_ssp and cet as posted for 11.0 (qemu-devel, 18 November 2025).
# "svn_npt" and "async_pv_eoi_msr" are spelt so. nested_state has a shape of its own: see nested.py.
CPU_SUBSECTIONS = (
    SubsectionField("exception_info", "exception_pending", "uint8"),
    SubsectionField("exception_info", "exception_injected", "uint8"),
    SubsectionField("exception_info", "exception_has_payload", "uint8"),
    SubsectionField("exception_info", "exception_payload", "uint64"),
    SubsectionField("async_pf_msr", "async_pf_en_msr", "uint64"),
    SubsectionField("async_pf_int_msr", "async_pf_int_msr", "uint64"),
    SubsectionField("async_pv_eoi_msr", "pv_eoi_en_msr", "uint64"),
    SubsectionField("steal_time_msr", "steal_time_msr", "uint64"),
    SubsectionField("poll_control_msr", "poll_control_msr", "uint64"),
    SubsectionField("fpop_ip_dp", "fpop", "uint16"),
    SubsectionField("fpop_ip_dp", "fpip", "uint64"),
    SubsectionField("fpop_ip_dp", "fpdp", "uint64"),
    SubsectionField("msr_tsc_adjust", "tsc_adjust", "uint64"),
    SubsectionField("msr_tscdeadline", "tsc_deadline", "uint64"),
    SubsectionField("msr_ia32_misc_enable", "msr_ia32_misc_enable", "uint64"),
    SubsectionField("msr_ia32_feature_control", "msr_ia32_feature_control", "uint64"),
    SubsectionField("msr_architectural_pmu", "msr_fixed_ctr_ctrl", "uint64"),
    SubsectionField("msr_architectural_pmu", "msr_global_ctrl", "uint64"),
    SubsectionField("msr_architectural_pmu", "msr_global_status", "uint64"),
    SubsectionField("msr_architectural_pmu", "msr_global_ovf_ctrl", "uint64"),
    SubsectionField("msr_architectural_pmu", "msr_fixed_counters", "uint64", 3),
    SubsectionField("msr_architectural_pmu", "msr_gp_counters", "uint64", 18),
    SubsectionField("msr_architectural_pmu", "msr_gp_evtsel", "uint64", 18),
    SubsectionField("mpx", "bnd_regs", "bnd_regs", 4),
    SubsectionField("mpx", "bndcs_regs.cfgu", "uint64"),
    SubsectionField("mpx", "bndcs_regs.sts", "uint64"),
    SubsectionField("mpx", "msr_bndcfgs", "uint64"),
    SubsectionField("msr_hyperv_hypercall", "msr_hv_guest_os_id", "uint64"),
    SubsectionField("msr_hyperv_hypercall", "msr_hv_hypercall", "uint64"),
    SubsectionField("msr_hyperv_vapic", "msr_hv_vapic", "uint64"),
    SubsectionField("msr_hyperv_time", "msr_hv_tsc", "uint64"),
    SubsectionField("msr_hyperv_crash", "msr_hv_crash_params", "uint64", 5),
    SubsectionField("msr_hyperv_runtime", "msr_hv_runtime", "uint64"),
    SubsectionField("msr_hyperv_synic", "msr_hv_synic_control", "uint64"),
    SubsectionField("msr_hyperv_synic", "msr_hv_synic_evt_page", "uint64"),
    SubsectionField("msr_hyperv_synic", "msr_hv_synic_msg_page", "uint64"),
    SubsectionField("msr_hyperv_synic", "msr_hv_synic_sint", "uint64", 16),
    SubsectionField("msr_hyperv_stimer", "msr_hv_stimer_config", "uint64", 4),
    SubsectionField("msr_hyperv_stimer", "msr_hv_stimer_count", "uint64", 4),
    SubsectionField("msr_hyperv_reenlightenment", "msr_hv_reenlightenment_control", "uint64"),
    SubsectionField("msr_hyperv_reenlightenment", "msr_hv_tsc_emulation_control", "uint64"),
    SubsectionField("msr_hyperv_reenlightenment", "msr_hv_tsc_emulation_status", "uint64"),
    SubsectionField("avx512", "opmask_regs", "uint64", 8),
    SubsectionField("avx512", "xmm_regs[0]", "zmmh_reg", 16),
    SubsectionField("avx512", "xmm_regs[1]", "hi16_zmm_reg", 16),
    SubsectionField("xss", "xss", "uint64"),
    SubsectionField("umwait", "umwait", "uint32"),
    SubsectionField("tsc_khz", "tsc_khz", "int64"),
    SubsectionField("msr_smi_count", "msr_smi_count", "uint64"),
    SubsectionField("pkru", "pkru", "uint32"),
    SubsectionField("pkrs", "pkrs", "uint32"),
    SubsectionField("spec_ctrl", "spec_ctrl", "uint64"),
    SubsectionField("amd_tsc_scale_msr", "amd_tsc_scale_msr", "uint64"),
    SubsectionField("mcg_ext_ctl", "mcg_ext_ctl", "uint64"),
    SubsectionField("intel_pt", "msr_rtit_ctrl", "uint64"),
    SubsectionField("intel_pt", "msr_rtit_status", "uint64"),
    SubsectionField("intel_pt", "msr_rtit_output_base", "uint64"),
    SubsectionField("intel_pt", "msr_rtit_output_mask", "uint64"),
    SubsectionField("intel_pt", "msr_rtit_cr3_match", "uint64"),
    SubsectionField("intel_pt", "msr_rtit_addrs", "uint64", 8),
    SubsectionField("virt_ssbd", "virt_ssbd", "uint64"),
    SubsectionField("svn_npt", "nested_cr3", "uint64"),
    SubsectionField("svn_npt", "nested_pg_mode", "uint32"),
    SubsectionField("svm_guest", "int_ctl", "uint32"),
    SubsectionField("nested_state", "nested_state", "kvm_nested_state"),
    SubsectionField("xen_vcpu", "xen_vcpu_info_gpa", "uint64"),
    SubsectionField("xen_vcpu", "xen_vcpu_info_default_gpa", "uint64"),
    SubsectionField("xen_vcpu", "xen_vcpu_time_info_gpa", "uint64"),
    SubsectionField("xen_vcpu", "xen_vcpu_runstate_gpa", "uint64"),
    SubsectionField("xen_vcpu", "xen_vcpu_callback_vector", "uint8"),
    SubsectionField("xen_vcpu", "xen_virq", "uint16", 24),
    SubsectionField("xen_vcpu", "xen_singleshot_timer_ns", "uint64"),
    SubsectionField("xen_vcpu", "xen_periodic_timer_period", "uint64"),
    SubsectionField("msr_tsx_ctrl", "tsx_ctrl", "uint32"),
    SubsectionField("intel_sgx", "msr_ia32_sgxlepubkeyhash", "uint64", 4),
    SubsectionField("pdptrs", "pdptrs", "uint64", 4),
    SubsectionField("msr_xfd", "msr_xfd", "uint64"),
    SubsectionField("msr_xfd", "msr_xfd_err", "uint64"),
    SubsectionField("intel_amx_xtile", "xtilecfg", "uint8", 64),
    SubsectionField("intel_amx_xtile", "xtiledata", "uint8", 8192),
    SubsectionField("arch_lbr", "msr_lbr_ctl", "uint64"),
    SubsectionField("arch_lbr", "msr_lbr_depth", "uint64"),
    SubsectionField("arch_lbr", "lbr_records", "lbr_records_var", 32),
    SubsectionField("triple_fault", "triple_fault_pending", "uint8"),
    SubsectionField("msr_pl0_ssp", "pl0_ssp", "uint64"),
    SubsectionField("cet", "u_cet", "uint64"),
    SubsectionField("cet", "s_cet", "uint64"),
    SubsectionField("cet_shstk", "pl1_ssp", "uint64"),
    SubsectionField("cet_shstk", "pl2_ssp", "uint64"),
    SubsectionField("cet_shstk", "pl3_ssp", "uint64"),
    SubsectionField("cet_shstk", "int_ssp_table", "uint64"),
    SubsectionField("cet_shstk", "guest_ssp", "uint64"),
)

SAVE_ORDER: Mapping[str, int] = {
    f"cpu/{name}": position
    for position, (name, _) in enumerate(groupby(CPU_SUBSECTIONS, key=lambda row: row.subsection))
}
"""Where QEMU writes each known subsection, from 0."""

FIELDS: Mapping[str, tuple[FieldRow, ...]] = {
    f"cpu/{name}": tuple(FieldRow(row.name, row.type, row.count) for row in rows)
    for name, rows in groupby(CPU_SUBSECTIONS, key=lambda row: row.subsection)
    if name != "nested_state"
}
"""Fields of each known subsection but `cpu/nested_state`."""

check_unique([(row.subsection, row.name) for row in CPU_SUBSECTIONS], "CPU_SUBSECTIONS")
check_unique(
    [name for name, _ in groupby(CPU_SUBSECTIONS, key=lambda row: row.subsection)],
    "CPU_SUBSECTIONS",
)
for _rows in FIELDS.values():
    for _row in _rows:
        element_size(_row.type)


@dataclass(frozen=True)
class Subsection:
    """One subsection: `payload` is its fields and its own subsections, as in the stream.

    `offset` is where its first byte (05) stands in the file it was read from, `description` its
    entry in that file's vmdescription.
    """

    name: str
    version: int
    payload: bytes = field(repr=False)
    offset: int | None = field(default=None, compare=False)
    description: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, name: str, /, **values: Value) -> Subsection:
        """A known subsection made of field values; raises `ValueError` when they do not fit."""
        rows = FIELDS[name]
        if set(values) != {row.name for row in rows}:
            raise ValueError(f"{name} has the fields {', '.join(row.name for row in rows)}")
        payload = b"".join(encode(row, values[row.name]) for row in rows)
        return cls(name, 1, payload)

    @classmethod
    def of_nested_state(cls, state: NestedState) -> Subsection:
        """The `cpu/nested_state` subsection that carries `state`."""
        return cls(NESTED_STATE, 1, state.to_payload())

    @property
    def size(self) -> int:
        """Bytes in the stream, header included."""
        return 6 + len(self.name) + len(self.payload)

    def to_bytes(self) -> bytes:
        """The subsection as it stands in the stream."""
        return subsection_header(self.name, self.version) + self.payload

    def values(self) -> dict[str, Value]:
        """The fields of a known subsection by name; raises `StreamError` when they do not fit.

        Empty for a subsection that is not known, and for `cpu/nested_state`: see `nested_state`.
        """
        rows = FIELDS.get(self.name, ())
        if len(self.payload) < size_of(rows):
            raise StreamError(
                self.offset or 0,
                f"{self.name}: {size_of(rows)} bytes expected, found {len(self.payload)}",
            )
        values: dict[str, Value] = {}
        position = 0
        for row in rows:
            values[row.name] = decode(row, self.payload[position : position + row.size])
            position += row.size
        return values

    def nested_state(self) -> NestedState:
        """What `cpu/nested_state` carries; raises `StreamError` when it is malformed."""
        cursor = Cursor(self.payload)
        try:
            state = NestedState.read(cursor)
        except StreamError as error:
            raise StreamError(self._payload_offset + error.offset, error.message) from None
        if cursor.left:
            raise StreamError(
                self._payload_offset + cursor.position,
                f"{self.name}: {cursor.left} bytes after its last subsection",
            )
        return state

    def describe(self) -> Mapping[str, Any]:
        """The vmdescription entry: the one it was read with, else the one QEMU would write."""
        if self.description is not None:
            return self.description
        if self.name == NESTED_STATE:
            return self.nested_state().describe()
        rows = FIELDS.get(self.name, ())
        if rows and size_of(rows) == len(self.payload):
            fields = describe(rows)
        else:
            fields = [{"name": "data", "type": "buffer", "size": len(self.payload)}]
        return {"vmsd_name": self.name, "version": self.version, "fields": fields}

    @property
    def _payload_offset(self) -> int:
        return (self.offset or 0) + 6 + len(self.name)


def read_subsections(
    cursor: Cursor, entries: Sequence[Mapping[str, Any]] | None
) -> list[Subsection]:
    """All subsections of a `cpu` section, up to the cursor's end; raises `StreamError`.

    `entries` is what the vmdescription says of them; without one (None) the lengths of the
    subsections that QEMU is known to write are used, and an unknown name is an error.
    """
    found = []
    for entry in entries or ():
        begin = cursor.position
        name, version = read_subsection_header(cursor)
        if (name, version) != (entry["vmsd_name"], entry["version"]):
            raise StreamError(
                begin,
                f"the vmdescription says {entry['vmsd_name']} version {entry['version']}, "
                f"found {name} version {version}",
            )
        size = subsection_size(entry) - 6 - len(name)
        found.append(Subsection(name, version, cursor.take(size, name), begin, entry))
    while entries is None and cursor.left:
        begin = cursor.position
        name, version = read_subsection_header(cursor)
        payload = cursor.position
        _skip_known(cursor, name, begin)
        found.append(Subsection(name, version, cursor.data[payload : cursor.position], begin))
    if cursor.left:
        raise StreamError(
            cursor.position,
            f"{cursor.left} bytes after the last subsection that the vmdescription names",
        )
    for subsection in found:
        if subsection.name == NESTED_STATE:
            subsection.nested_state()
    return found


def _skip_known(cursor: Cursor, name: str, begin: int) -> None:
    """Pass over the payload of a subsection whose length only its name tells."""
    if name == NESTED_STATE:
        NestedState.read(cursor)
        return
    if name not in FIELDS:
        raise StreamError(
            begin, f"{name} is not known and there is no vmdescription to tell its length"
        )
    cursor.skip(size_of(FIELDS[name]), name)
    while (inner := peek_subsection(cursor, name)) is not None:
        begin = cursor.position
        read_subsection_header(cursor)
        _skip_known(cursor, inner, begin)
