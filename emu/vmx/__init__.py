"""VMX: what the manual says of virtual-machine extensions, on the processor of `emu.cpu`.

`extension.Vmx` is the extension, `guest.NonRoot` the guest mode that it enters. The tables are
those of `vmcs.vmx`; nothing here knows of a hypervisor.
"""

from emu.vmx.extension import Vmx

__all__ = ["Vmx"]
