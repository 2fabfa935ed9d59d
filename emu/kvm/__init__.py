"""KVM as user space meets it: the system, VMs, vCPUs and their nested state, of any release."""

from emu.kvm.cpuid import Cpuid
from emu.kvm.host import Host, ModuleParameters
from emu.kvm.system import Kvm
from emu.kvm.vcpu import Vcpu
from emu.kvm.vm import Vm

__all__ = ["Cpuid", "Host", "Kvm", "ModuleParameters", "Vcpu", "Vm"]
