"""The processor's checks on VM entry, as rows in the manual's order (SDM, "VM Entries").

`CONTROL_CHECKS` and `HOST_STATE_CHECKS` make VM entry fail with VM-instruction error 7 and 8;
`GUEST_STATE_CHECKS` make it exit with "VM-entry failure due to invalid guest state", and the
`MSR_LOAD_CHECKS` with "VM-entry failure due to MSR loading".
"""

from vmcs.vmx.entry_checks.controls import CONTROL_CHECKS
from vmcs.vmx.entry_checks.guest_state import GUEST_STATE_CHECKS
from vmcs.vmx.entry_checks.host_state import HOST_STATE_CHECKS
from vmcs.vmx.entry_checks.msr_load import MSR_LOAD_CHECKS
from vmcs.vmx.entry_checks.words import vocabulary

__all__ = [
    "CONTROL_CHECKS",
    "GUEST_STATE_CHECKS",
    "HOST_STATE_CHECKS",
    "MSR_LOAD_CHECKS",
    "vocabulary",
]
