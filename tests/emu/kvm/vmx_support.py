"""A vCPU of an emulated Intel host, and blobs for it."""

import gzip
import json
from functools import cache
from pathlib import Path
from types import MappingProxyType

from emu.errors import KvmError
from emu.kvm import Kvm
from emu.kvm.control_registers import CR0, CR4, EFER
from emu.kvm.cpu_models import host_of
from emu.kvm.host import ModuleParameters
from emu.kvm.nested_vmx.words import BLOB_WORDS, WHOLE_SIZE
from emu.kvm.structs import Segment
from emu.releases import RELEASES

DATA = Path(__file__).parents[2] / "data" / "real-kernel-verdicts"
VMX_RELEASES = tuple(name for name, kernel in RELEASES.items() if kernel.number("vmx_maximum_size"))
MEMORY = 4 << 20
NONE_PA = 0xFFFF_FFFF_FFFF_FFFF
GUEST_MODE, RUN_PENDING, EVMCS, MTF_PENDING = 0x1, 0x2, 0x4, 0x8
L1 = (CR0.PG | CR0.WP | CR0.NE | CR0.ET | CR0.PE, 0x10000, CR4.VMXE | CR4.PAE, EFER.LMA | EFER.LME)
LONG_MODE_CS = Segment(limit=0xFFFF_FFFF, selector=8, type=11, present=1, s=1, l=1, g=1)


@cache
def recorded(name="vmx-7.2"):
    return MappingProxyType(json.loads(gzip.decompress((DATA / f"{name}.json.gz").read_bytes())))


def base_blob():
    """A recorded state of an L2 in guest mode, in a zeroed buffer of the longest size."""
    return bytearray(bytes.fromhex(recorded()["bases"][0])[:WHOLE_SIZE].ljust(WHOLE_SIZE, b"\0"))


def put(blob, name, value):
    offset, width = BLOB_WORDS[name]
    blob[offset : offset + width] = value.to_bytes(width, "little")


def get(blob, name):
    offset, width = BLOB_WORDS[name]
    return int.from_bytes(blob[offset : offset + width], "little")


def patched(**words):
    blob = base_blob()
    for name, value in words.items():
        put(blob, name, value)
    return blob


def make_vcpu(release, **parameters):
    """A vCPU in long mode with CR4.VMXE, ready for nested state."""
    wanted = ModuleParameters(**{"nested": True, **parameters})
    kvm = Kvm(release, host_of("skylake-x", RELEASES[release], wanted))
    vm = kvm.create_vm()
    vm.set_user_memory_region(0, 0, MEMORY)
    vm.create_irqchip()
    vcpu = vm.create_vcpu(0)
    vcpu.set_cpuid2(kvm.get_supported_cpuid())
    cr0, cr3, cr4, efer = L1
    vcpu.load_control_registers(cr0, cr3, cr4, efer)
    vcpu.operations.set_segment("cs", LONG_MODE_CS)
    return vcpu


def outcome(vcpu, blob):
    """What the ioctl gives (its value, or the errno) and the rule that stopped it, if any."""
    try:
        status = vcpu.set_nested_state(blob)
    except KvmError as refusal:
        return refusal.errno, refusal.rule
    return status, vcpu.entry_refusal[0] if vcpu.entry_refusal else ""
