"""VM-instruction error numbers: what VMfailValid leaves in the VM-instruction error field."""

from vmcs.schema import CodeTable, code, unused


class InstructionError(CodeTable, sdm="VM Instruction Error Numbers", macros="VMXERR_"):
    """The VM-instruction error field; 0 is no error and is never written by VMfailValid."""

    VMCALL_IN_VMX_ROOT_OPERATION = code(1, "VMCALL executed in VMX root operation")
    VMCLEAR_INVALID_ADDRESS = code(2, "VMCLEAR with invalid physical address")
    VMCLEAR_VMXON_POINTER = code(3, "VMCLEAR with VMXON pointer")
    VMLAUNCH_NON_CLEAR_VMCS = code(4, "VMLAUNCH with non-clear VMCS", "VMLAUNCH_NONCLEAR_VMCS")
    VMRESUME_NON_LAUNCHED_VMCS = code(
        5, "VMRESUME with non-launched VMCS", "VMRESUME_NONLAUNCHED_VMCS"
    )
    VMRESUME_AFTER_VMXOFF = code(
        6, "VMRESUME after VMXOFF (VMXOFF and VMXON between VMLAUNCH and VMRESUME)"
    )
    ENTRY_INVALID_CONTROL_FIELD = code(7, "VM entry with invalid control field(s)")
    ENTRY_INVALID_HOST_STATE_FIELD = code(8, "VM entry with invalid host-state field(s)")
    VMPTRLD_INVALID_ADDRESS = code(9, "VMPTRLD with invalid physical address")
    VMPTRLD_VMXON_POINTER = code(10, "VMPTRLD with VMXON pointer")
    VMPTRLD_INCORRECT_REVISION_ID = code(
        11, "VMPTRLD with incorrect VMCS revision identifier", "VMPTRLD_INCORRECT_VMCS_REVISION_ID"
    )
    UNSUPPORTED_VMCS_COMPONENT = code(12, "VMREAD/VMWRITE from/to unsupported VMCS component")
    VMWRITE_READ_ONLY_COMPONENT = code(
        13, "VMWRITE to read-only VMCS component", "VMWRITE_READ_ONLY_VMCS_COMPONENT"
    )
    UNUSED_14 = unused(14)
    VMXON_IN_VMX_ROOT_OPERATION = code(15, "VMXON executed in VMX root operation")
    ENTRY_INVALID_EXECUTIVE_VMCS = code(
        16,
        "VM entry with invalid executive-VMCS pointer",
        "ENTRY_INVALID_EXECUTIVE_VMCS_POINTER",
    )
    ENTRY_NON_LAUNCHED_EXECUTIVE_VMCS = code(
        17, "VM entry with non-launched executive VMCS", "ENTRY_NONLAUNCHED_EXECUTIVE_VMCS"
    )
    ENTRY_EXECUTIVE_VMCS_NOT_VMXON_POINTER = code(
        18,
        "VM entry with executive-VMCS pointer not VMXON pointer "
        "(when attempting to deactivate the dual-monitor treatment of SMIs and SMM)",
        "ENTRY_EXECUTIVE_VMCS_POINTER_NOT_VMXON_POINTER",
    )
    VMCALL_NON_CLEAR_VMCS = code(
        19,
        "VMCALL with non-clear VMCS "
        "(when attempting to activate the dual-monitor treatment of SMIs and SMM)",
        "VMCALL_NONCLEAR_VMCS",
    )
    VMCALL_INVALID_EXIT_CONTROLS = code(
        20, "VMCALL with invalid VM-exit control fields", "VMCALL_INVALID_VM_EXIT_CONTROL_FIELDS"
    )
    UNUSED_21 = unused(21)
    VMCALL_INCORRECT_MSEG_REVISION_ID = code(
        22,
        "VMCALL with incorrect MSEG revision identifier "
        "(when attempting to activate the dual-monitor treatment of SMIs and SMM)",
    )
    VMXOFF_UNDER_DUAL_MONITOR_TREATMENT = code(
        23,
        "VMXOFF under dual-monitor treatment of SMIs and SMM",
        "VMXOFF_UNDER_DUAL_MONITOR_TREATMENT_OF_SMIS_AND_SMM",
    )
    VMCALL_INVALID_SMM_MONITOR_FEATURES = code(
        24,
        "VMCALL with invalid SMM-monitor features "
        "(when attempting to activate the dual-monitor treatment of SMIs and SMM)",
    )
    ENTRY_INVALID_EXECUTIVE_CONTROLS = code(
        25,
        "VM entry with invalid VM-execution control fields in executive VMCS "
        "(when attempting to return from SMM)",
        "ENTRY_INVALID_VM_EXECUTION_CONTROL_FIELDS_IN_EXECUTIVE_VMCS",
    )
    ENTRY_EVENTS_BLOCKED_BY_MOV_SS = code(26, "VM entry with events blocked by MOV SS")
    UNUSED_27 = unused(27)
    INVALID_OPERAND_TO_INVEPT_INVVPID = code(28, "Invalid operand to INVEPT/INVVPID")
