"""A vCPU of an emulated AMD host, and blobs for it."""

import gzip
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import MappingProxyType

from emu.kvm import Host, Kvm, ModuleParameters
from emu.kvm.control_registers import CR0, CR4, EFER
from emu.kvm.cpuid import FEATURE, Cpuid
from emu.kvm.nested_svm.words import BLOB_WORDS
from emu.releases import RELEASES

DATA = Path(__file__).parents[2] / "data" / "real-kernel-verdicts"
SIZE = 4224
SVM_RELEASES = tuple(name for name, kernel in RELEASES.items() if kernel.names("svm_rules"))
PLACES = {word.name: (word.offset, word.width) for word in BLOB_WORDS}
GUEST_MODE, RUN_PENDING, GIF_SET = 0x1, 0x2, 0x100
ALL64 = 0xFFFF_FFFF_FFFF_FFFF


@cache
def recorded(name="svm-7.2"):
    return MappingProxyType(json.loads(gzip.decompress((DATA / f"{name}.json.gz").read_bytes())))


def base_blob():
    return bytearray.fromhex(recorded()["bases"][0])


def host(recording="svm-7.2", **parameters):
    environment = recorded(recording)["environment"]
    return Host.from_environment("svm", environment, ModuleParameters(**parameters))


def with_features(kvm_host, *names):
    """The host whose KVM offers these features too."""
    rows = [list(row) for row in kvm_host.cpuid.rows]
    for name in names:
        feature = FEATURE[name]
        row = next(r for r in rows if r[:2] == [feature.function, feature.subleaf])
        row[2 + feature.register] |= 1 << feature.bit
    return replace(kvm_host, cpuid=Cpuid(rows))


def make_vcpu(release, kvm_host=None, *, svme=True, memory=4 << 20):
    """A vCPU in long mode, ready for nested state."""
    kvm = Kvm(release, kvm_host or host())
    vm = kvm.create_vm()
    if memory:
        vm.set_user_memory_region(0, 0, memory)
    vm.create_irqchip()
    vcpu = vm.create_vcpu(0)
    vcpu.set_cpuid2(kvm.get_supported_cpuid())
    efer = EFER.LME | EFER.LMA | (EFER.SVME if svme else 0)
    vcpu.load_control_registers(CR0.PG | CR0.PE | CR0.ET, 0x10000, CR4.PAE, efer)
    return vcpu


def put(blob, name, value):
    offset, width = PLACES[name]
    blob[offset : offset + width] = (value & (1 << 8 * width) - 1).to_bytes(width, "little")


def get(blob, name):
    offset, width = PLACES[name]
    return int.from_bytes(blob[offset : offset + width], "little")


def patched(**words):
    """The base blob with words replaced."""
    blob = base_blob()
    for name, value in words.items():
        put(blob, name, value)
    return blob
