# The VMX hypervisor: one guest, in an address space that is the machine's own, below 4 GiB.
#
# What the scenarios use of it are the routines hv_, and the macros get, put and hypercall; svm.s
# has the same.

    .set VMX, 1

    .set MSR_FEATURE_CONTROL, 0x3A
    .set FEATURE_LOCKED_VMX, 5
    .set MSR_VMX_BASIC, 0x480
    .set MSR_VMX_CR0_FIXED0, 0x486
    .set MSR_VMX_CR4_FIXED0, 0x488
    .set MSR_TRUE_PIN, 0x48D
    .set MSR_TRUE_PROC, 0x48E
    .set MSR_TRUE_EXIT, 0x48F
    .set MSR_TRUE_ENTRY, 0x490
    .set MSR_PROC2, 0x48B
    .set CPUID_VMX, 1 << 5
    .set CR4_VMXE, 1 << 13

    .set EPT_TABLE, 7
    .set EPT_LARGE, 0xB7
    .set SMALL_PAGE, 0x37
    .set SMALL_PAGE_READ_ONLY, 0x35
    .set EPTP_WRITE_BACK_4_LEVELS, 0x1E

    .set EXIT_HYPERCALL, EXIT_VMCALL
    .set EXIT_INTERRUPT, EXIT_EXTERNAL_INTERRUPT
    .set EXIT_WINDOW, EXIT_INTERRUPT_WINDOW
    .set EXIT_SECOND_LEVEL, EXIT_EPT_VIOLATION
    .set EXIT_HALT, EXIT_HLT

    .set L2_RIP, GUEST_RIP
    .set L2_RSP, GUEST_RSP
    .set L2_RFLAGS, GUEST_RFLAGS
    .set L2_CR3, GUEST_CR3
    .set L2_IDTR_BASE, GUEST_IDTR_BASE
    .set L2_FAULT_ADDRESS, GUEST_PHYSICAL_ADDRESS
    .set L2_IN_DELIVERY, IDT_VECTORING_INFO_FIELD
    .set CODE32_RIGHTS, 0xC09B
    .set EVENT_VALID, 1 << 31
    .set EXCEPTION_WITH_ERROR, EVENT_VALID | 1 << 11 | 3 << 8

    .set PIN_WANTED, PIN_EXTERNAL_INTERRUPT_EXITING
    .set PROC_WANTED, PROC_ACTIVATE_SECONDARY_CONTROLS | PROC_HLT_EXITING
    .set PROC2_WANTED, PROC2_ENABLE_EPT
    .set EXIT_EFER, VMEXIT_SAVE_IA32_EFER | VMEXIT_LOAD_IA32_EFER
    .set EXIT_ACKNOWLEDGE, VMEXIT_ACKNOWLEDGE_INTERRUPT_ON_EXIT
    .set EXIT_WANTED, VMEXIT_HOST_ADDRESS_SPACE_SIZE | EXIT_EFER | EXIT_ACKNOWLEDGE
    .set ENTRY_WANTED, VMENTRY_IA32E_MODE_GUEST | VMENTRY_LOAD_IA32_EFER

    .macro get register, name
    mov eax, \name
    vmread \register, rax
    .endm

    .macro put name, value
    .ifnc \value, rax
    mov rax, \value
    .endif
    push rdx
    mov edx, \name
    vmwrite rdx, rax
    pop rdx
    .endm

    .macro hypercall
    vmcall
    .endm

    .text
    .macro field name, value
    .long \name
    .quad \value
    .endm

constant_fields:
    field VMCS_LINK_POINTER, -1
    field EXCEPTION_BITMAP, 0
    field PAGE_FAULT_ERROR_CODE_MASK, 0
    field PAGE_FAULT_ERROR_CODE_MATCH, 0
    field CR3_TARGET_COUNT, 0
    field VM_EXIT_MSR_STORE_COUNT, 0
    field VM_EXIT_MSR_LOAD_COUNT, 0
    field VM_ENTRY_MSR_LOAD_COUNT, 0
    field VM_ENTRY_INTR_INFO_FIELD, 0
    field CR0_GUEST_HOST_MASK, 0
    field CR4_GUEST_HOST_MASK, 0
    field EPT_POINTER, second_level + EPTP_WRITE_BACK_4_LEVELS
    field HOST_CS_SELECTOR, CODE64
    field HOST_SS_SELECTOR, DATA
    field HOST_DS_SELECTOR, DATA
    field HOST_ES_SELECTOR, DATA
    field HOST_FS_SELECTOR, 0
    field HOST_GS_SELECTOR, 0
    field HOST_TR_SELECTOR, TASK
    field HOST_FS_BASE, 0
    field HOST_GS_BASE, 0
    field HOST_TR_BASE, task_state
    field HOST_GDTR_BASE, gdt
    field HOST_IDTR_BASE, idt
    field HOST_IA32_SYSENTER_CS, 0
    field HOST_IA32_SYSENTER_ESP, 0
    field HOST_IA32_SYSENTER_EIP, 0
    field HOST_RIP, after_exit
    field GUEST_CS_SELECTOR, CODE64
    field GUEST_CS_BASE, 0
    field GUEST_CS_LIMIT, 0xFFFFFFFF
    field GUEST_CS_AR_BYTES, 0xA09B
    field GUEST_SS_SELECTOR, DATA
    field GUEST_SS_BASE, 0
    field GUEST_SS_LIMIT, 0xFFFFFFFF
    field GUEST_SS_AR_BYTES, 0xC093
    field GUEST_DS_SELECTOR, DATA
    field GUEST_DS_BASE, 0
    field GUEST_DS_LIMIT, 0xFFFFFFFF
    field GUEST_DS_AR_BYTES, 0xC093
    field GUEST_ES_SELECTOR, DATA
    field GUEST_ES_BASE, 0
    field GUEST_ES_LIMIT, 0xFFFFFFFF
    field GUEST_ES_AR_BYTES, 0xC093
    field GUEST_FS_SELECTOR, 0
    field GUEST_FS_BASE, 0
    field GUEST_FS_LIMIT, 0
    field GUEST_FS_AR_BYTES, 0x10000
    field GUEST_GS_SELECTOR, 0
    field GUEST_GS_BASE, 0
    field GUEST_GS_LIMIT, 0
    field GUEST_GS_AR_BYTES, 0x10000
    field GUEST_LDTR_SELECTOR, 0
    field GUEST_LDTR_BASE, 0
    field GUEST_LDTR_LIMIT, 0
    field GUEST_LDTR_AR_BYTES, 0x10000
    field GUEST_TR_SELECTOR, TASK
    field GUEST_TR_BASE, task_state
    field GUEST_TR_LIMIT, 0x67
    field GUEST_TR_AR_BYTES, 0x8B
    field GUEST_GDTR_BASE, gdt
    field GUEST_GDTR_LIMIT, GDT_LIMIT
    field GUEST_IDTR_BASE, idt
    field GUEST_IDTR_LIMIT, 0xFFF
    field GUEST_DR7, 0x400
    field GUEST_RFLAGS, 2
    field GUEST_IA32_DEBUGCTL, 0
    field GUEST_SYSENTER_CS, 0
    field GUEST_SYSENTER_ESP, 0
    field GUEST_SYSENTER_EIP, 0
    field GUEST_ACTIVITY_STATE, 0
    field GUEST_INTERRUPTIBILITY_INFO, 0
    field GUEST_PENDING_DBG_EXCEPTIONS, 0
constant_fields_end:

    .code64

# VMX operation. SDM Vol. 3, Enabling and Entering VMX Operation.
hv_on:
    mov eax, 1
    cpuid
    test ecx, CPUID_VMX
    jnz 4f
    say "L1: this processor has no VMX\n"
    mov edi, 1
    jmp exit
4:  mov ecx, MSR_FEATURE_CONTROL
    rdmsr
    test eax, 1
    jnz 4f
    or eax, FEATURE_LOCKED_VMX
    wrmsr
4:  mov ecx, MSR_VMX_CR0_FIXED0
    call fixed_bits
    mov rdx, cr0
    or rdx, rax
    mov cr0, rdx
    mov ecx, MSR_VMX_CR4_FIXED0
    call fixed_bits
    mov rdx, cr4
    or rdx, rax
    or rdx, CR4_VMXE
    mov cr4, rdx
    mov ecx, MSR_VMX_BASIC
    rdmsr
    mov [rip + vmxon_region], eax
    mov [rip + vmcs], eax
    mov [rip + shadow_vmcs], eax
    mov eax, offset vmxon_region
    mov [rip + pointer], rax
    vmxon [rip + pointer]
    jbe vm_failed
    say "L1: VMX operation\n"
    call fill_second_level
    ret

# What a FIXED0 MSR, ecx, wants set.
fixed_bits:
    rdmsr
    shl rdx, 32
    or rax, rdx
    ret

vm_failed:
    say "L1: VMfail"
    jc 4f
    get rbx, VM_INSTRUCTION_ERROR
    say ", error "
    say_decimal rbx
4:  say "\n"
    mov edi, 2
    jmp exit

# A guest that begins at rdi with stack rsi, in 64-bit mode, with L1's own tables.
hv_guest:
    mov r8, rdi
    mov r9, rsi
    mov eax, offset vmcs
    mov [rip + pointer], rax
    vmclear [rip + pointer]
    jbe vm_failed
    vmptrld [rip + pointer]
    jbe vm_failed
    mov byte ptr [rip + launched], 0
    lea rsi, [rip + constant_fields]
    lea rdi, [rip + constant_fields_end]
4:  lodsd
    mov edx, eax
    lodsq
    vmwrite rdx, rax
    jbe vm_failed
    cmp rsi, rdi
    jb 4b

    mov ecx, MSR_TRUE_PIN
    mov edi, PIN_WANTED
    call allowed
    put PIN_BASED_VM_EXEC_CONTROL, rax
    mov ecx, MSR_TRUE_PROC
    mov edi, PROC_WANTED
    call allowed
    put CPU_BASED_VM_EXEC_CONTROL, rax
    mov ecx, MSR_PROC2
    mov edi, PROC2_WANTED
    call allowed
    put SECONDARY_VM_EXEC_CONTROL, rax
    mov ecx, MSR_TRUE_EXIT
    mov edi, EXIT_WANTED
    call allowed
    put VM_EXIT_CONTROLS, rax
    mov ecx, MSR_TRUE_ENTRY
    mov edi, ENTRY_WANTED
    call allowed
    put VM_ENTRY_CONTROLS, rax
    mov ecx, MSR_EFER
    rdmsr
    shl rdx, 32
    or rax, rdx
    put HOST_IA32_EFER, rax
    put GUEST_IA32_EFER, rax
    mov rax, cr0
    put HOST_CR0, rax
    put GUEST_CR0, rax
    mov rax, cr3
    put HOST_CR3, rax
    put GUEST_CR3, rax
    mov rax, cr4
    put HOST_CR4, rax
    put GUEST_CR4, rax
    put GUEST_RIP, r8
    put GUEST_RSP, r9
    ret

# The control edi as the capability MSR ecx has it; ends the machine where it has not.
allowed:
    rdmsr
    mov esi, edi
    not edx
    and esi, edx
    jnz 4f
    or eax, edi
    ret
4:  say "L1: MSR "
    say_hex rcx
    say " does not allow "
    say_hex rsi
    say "\n"
    mov edi, 1
    jmp exit

# Enter the guest: the exit reason in eax. The guest's registers are in `registers`.
hv_run:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    mov eax, HOST_RSP
    vmwrite rax, rsp
    cmp byte ptr [rip + launched], 0
    load_registers
    mov rax, [rip + registers]
    je 4f
    vmresume
    jmp 2f
4:  vmlaunch
2:  pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    jmp vm_failed

after_exit:
    mov [rip + registers], rax
    store_registers
    mov byte ptr [rip + launched], 1
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    get rax, VM_EXIT_REASON
    bt eax, 31
    jc 4f
    ret
4:  movzx ebx, ax
    say "L1: VM entry failed, reason "
    say_decimal rbx
    say "\n"
    mov edi, 2
    jmp exit

# Step over the instruction that left the guest.
hv_skip:
    get rcx, VM_EXIT_INSTRUCTION_LEN
    get rdx, GUEST_RIP
    add rdx, rcx
    put GUEST_RIP, rdx
    ret

# External interrupt edi into the guest: at once, or else when its window opens.
hv_interrupt:
    get rax, GUEST_RFLAGS
    test eax, 1 << 9
    jz 4f
    get rax, GUEST_INTERRUPTIBILITY_INFO
    test eax, 3
    jnz 4f
    or edi, EVENT_VALID
    put VM_ENTRY_INTR_INFO_FIELD, rdi
    ret
4:  mov [rip + waiting_interrupt], edi
    get rax, CPU_BASED_VM_EXEC_CONTROL
    or eax, PROC_INTERRUPT_WINDOW_EXITING
    put CPU_BASED_VM_EXEC_CONTROL, rax
    ret

# The window is open: the interrupt that waited for it.
hv_window:
    get rax, CPU_BASED_VM_EXEC_CONTROL
    and eax, ~PROC_INTERRUPT_WINDOW_EXITING
    put CPU_BASED_VM_EXEC_CONTROL, rax
    mov edi, [rip + waiting_interrupt]
    jmp hv_interrupt

# Exception edi with error code esi into the guest.
hv_exception:
    or edi, EXCEPTION_WITH_ERROR
    put VM_ENTRY_INTR_INFO_FIELD, rdi
    put VM_ENTRY_EXCEPTION_ERROR_CODE, rsi
    ret

# The event that was being delivered when the guest left, into the guest again.
hv_deliver_again:
    get rdi, IDT_VECTORING_INFO_FIELD
    put VM_ENTRY_INTR_INFO_FIELD, rdi
    get rdi, IDT_VECTORING_ERROR_CODE
    put VM_ENTRY_EXCEPTION_ERROR_CODE, rdi
    get rdi, VM_EXIT_INSTRUCTION_LEN
    put VM_ENTRY_INSTRUCTION_LEN, rdi
    ret

# The vector of the interrupt that left the guest: VM exit has acknowledged it.
hv_take_interrupt:
    get rax, VM_EXIT_INTR_INFO
    movzx eax, al
    ret

# What a second-level fault was: eax 1 a write, 0 not; ecx 1 in a page walk, 0 not.
hv_fault_kind:
    get rdx, EXIT_QUALIFICATION
    mov ecx, edx
    shr ecx, 8
    not ecx
    and ecx, 1
    mov eax, edx
    shr eax, 1
    and eax, 1
    ret

# A 32-bit guest: code segment, and neither IA-32e mode nor EFER.LMA.
hv_code32:
    put GUEST_CS_SELECTOR, CODE32
    put GUEST_CS_AR_BYTES, CODE32_RIGHTS
    get rax, VM_ENTRY_CONTROLS
    and eax, ~VMENTRY_IA32E_MODE_GUEST
    put VM_ENTRY_CONTROLS, rax
    put GUEST_IA32_EFER, 0
    ret

# The paging of the guest: CR3 rdi, and the bits esi of CR4 instead of PAE.
hv_paging:
    put GUEST_CR3, rdi
    get rax, GUEST_CR4
    and eax, ~0x20
    or eax, esi
    put GUEST_CR4, rax
    ret

# The four PDPTEs at rdi, which VM entry loads from the VMCS with EPT.
hv_pdptes:
    mov ecx, GUEST_PDPTR0
4:  mov rax, [rdi]
    vmwrite rcx, rax
    add rdi, 8
    add ecx, 2
    cmp ecx, GUEST_PDPTR3
    jbe 4b
    ret

# The guest goes on waiting: eax 0, for it waits by itself when it is entered.
hv_wait_halted:
    put GUEST_ACTIVITY_STATE, 1
    xor eax, eax
    ret

# Whether the guest was halted when it left: eax.
hv_is_halted:
    get rax, GUEST_ACTIVITY_STATE
    ret

# The guest is no longer halted.
hv_wake:
    put GUEST_ACTIVITY_STATE, 0
    ret

# HLT leaves the guest no more.
hv_own_halt:
    get rax, CPU_BASED_VM_EXEC_CONTROL
    and eax, ~PROC_HLT_EXITING
    put CPU_BASED_VM_EXEC_CONTROL, rax
    ret

# EPT: everything below 4 GiB mapped to itself by 2 MiB pages, but for the hole.
fill_second_level:
    second_level_tables EPT_TABLE, EPT_LARGE
    mov eax, offset second_level
    or eax, EPTP_WRITE_BACK_4_LEVELS
    mov [rip + eptp], rax
    ret

# After a page that was mapped is mapped in another way.
hv_flush:
    push 0
    push [rip + eptp]
    mov eax, 1
    invept rax, [rsp]
    add rsp, 16
    ret

    .bss
    .balign 4096
vmxon_region:
    .skip 4096
vmcs:
    .skip 4096
shadow_vmcs:
    .skip 4096
pointer:
    .skip 8
eptp:
    .skip 8
launched:
    .skip 4
waiting_interrupt:
    .skip 4
