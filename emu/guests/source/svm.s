# The SVM hypervisor: one guest, in an address space that is the machine's own, below 4 GiB.
#
# What the scenarios use of it are the routines hv_, and the macros get, put and hypercall; vmx.s
# has the same.

    .set VMX, 0

    .set MSR_VM_CR, 0xC0010114
    .set VM_CR_SVMDIS, 1 << 4
    .set MSR_HSAVE, 0xC0010117
    .set EFER_SVME, 1 << 12
    .set CPUID_SVM, 1 << 2
    .set CPUID_NP, 1 << 0

    .set NPT_TABLE, 7
    .set NPT_LARGE, 0x87
    .set SMALL_PAGE, 7
    .set SMALL_PAGE_READ_ONLY, 5

    .set EXIT_HYPERCALL, EXIT_VMMCALL
    .set EXIT_INTERRUPT, EXIT_INTR
    .set EXIT_WINDOW, EXIT_VINTR
    .set EXIT_SECOND_LEVEL, EXIT_NPF
    .set EXIT_HALT, EXIT_HLT

    .set L2_RIP, VMCB_RIP
    .set L2_RSP, VMCB_RSP
    .set L2_RFLAGS, VMCB_RFLAGS
    .set L2_CR3, VMCB_CR3
    .set L2_IDTR_BASE, VMCB_IDTR_BASE
    .set L2_FAULT_ADDRESS, VMCB_EXIT_INFO_2
    .set L2_IN_DELIVERY, VMCB_EXIT_INT_INFO
    .set CODE32_RIGHTS, 0xC9B
    .set EVENT_VALID, 1 << 31
    .set EXCEPTION_WITH_ERROR, EVENT_VALID | 1 << 11 | 3 << 8
    .set EVENT_TYPE, 7 << 8
    .set SOFTWARE_INTERRUPT, 4 << 8

    .set V_IRQ, 1 << 8
    .set V_IGN_TPR, 1 << 20
    .set V_INTR_MASKING, 1 << 24
    .set FLUSH_ALL, 1

    .macro get register, name
    mov \register, [rip + vmcb + \name]
    .endm

    .macro put name, value
    .ifnc \value, rax
    mov rax, \value
    .endif
    mov [rip + vmcb + \name], rax
    .endm

    .macro hypercall
    vmmcall
    .endm

    .macro intercept name
    bts dword ptr [rip + vmcb + (\name / 32) * 4], \name & 31
    .endm

    .text
# ES to TR, in the order of the VMCB.
    .macro segment selector, rights, limit, base
    .word \selector, \rights
    .long \limit
    .quad \base
    .endm

guest_segments:
    segment DATA, 0xC93, 0xFFFFFFFF, 0
    segment CODE64, 0xA9B, 0xFFFFFFFF, 0
    segment DATA, 0xC93, 0xFFFFFFFF, 0
    segment DATA, 0xC93, 0xFFFFFFFF, 0
    segment 0, 0, 0, 0
    segment 0, 0, 0, 0
    segment 0, 0, GDT_LIMIT, gdt
    segment 0, 0, 0, 0
    segment 0, 0, 0xFFF, idt
    segment TASK, 0x8B, 0x67, task_state

    .code64

# EFER.SVME and the host's save area. APM Vol. 2, Enabling SVM.
hv_on:
    mov eax, 0x80000001
    cpuid
    test ecx, CPUID_SVM
    jz 4f
    mov eax, 0x8000000A
    cpuid
    not edx
    test edx, CPUID_NP
    jnz 4f
    mov ecx, MSR_VM_CR
    rdmsr
    test eax, VM_CR_SVMDIS
    jz 5f
4:  say "L1: this processor has no SVM with nested paging\n"
    mov edi, 1
    jmp exit
5:  mov ecx, MSR_EFER
    rdmsr
    or eax, EFER_SVME
    wrmsr
    mov ecx, MSR_HSAVE
    lea rax, [rip + host_save_area]
    xor edx, edx
    wrmsr
    clgi
    say "L1: SVM is on\n"
    second_level_tables NPT_TABLE, NPT_LARGE
    ret

# A guest that begins at rdi with stack rsi, in 64-bit mode, with L1's own tables.
hv_guest:
    put VMCB_RIP, rdi
    put VMCB_RSP, rsi
    intercept INTERCEPT_INTR
    intercept INTERCEPT_CPUID
    intercept INTERCEPT_HLT
    intercept INTERCEPT_SHUTDOWN
    intercept INTERCEPT_VMRUN
    intercept INTERCEPT_VMMCALL
    mov dword ptr [rip + vmcb + VMCB_ASID], 1
    mov dword ptr [rip + vmcb + VMCB_INT_CTL], V_INTR_MASKING
    mov byte ptr [rip + vmcb + VMCB_MISC_CTL], 1
    lea rax, [rip + second_level]
    put VMCB_NESTED_CR3, rax
    mov ecx, MSR_EFER
    rdmsr
    shl rdx, 32
    or rax, rdx
    put VMCB_EFER, rax
    mov rax, cr0
    put VMCB_CR0, rax
    mov rax, cr3
    put VMCB_CR3, rax
    mov rax, cr4
    put VMCB_CR4, rax
    put VMCB_RFLAGS, 2
    put VMCB_DR7, 0x400
    put VMCB_DR6, 0xFFFF0FF0
    mov rax, 0x0007040600070406
    put VMCB_G_PAT, rax
    lea rsi, [rip + guest_segments]
    lea rdi, [rip + vmcb + VMCB_ES_SELECTOR]
    mov ecx, 10 * 2
    rep movsq
    ret

# Enter the guest: the exit code in eax. The guest's registers are in `registers`.
#
# Interrupts that the guest must not mask leave it, since L1 has IF set when it enters.
hv_run:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    lea rax, [rip + host_state]
    vmsave rax
    mov rax, [rip + registers]
    put VMCB_RAX, rax
    lea rax, [rip + vmcb]
    vmload rax
    sti
    load_registers
    vmrun rax
    cli
    store_registers
    lea rax, [rip + vmcb]
    vmsave rax
    lea rax, [rip + host_state]
    vmload rax
    get rax, VMCB_RAX
    mov [rip + registers], rax
    mov byte ptr [rip + vmcb + VMCB_TLB_CTL], 0
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    get rax, VMCB_EXIT_CODE
    cmp rax, -1
    je 4f
    ret
4:  say "L1: VMRUN failed\n"
    mov edi, 2
    jmp exit

# Step over the instruction that left the guest: not every processor gives the next RIP.
hv_skip:
    mov ecx, 3
    cmp dword ptr [rip + vmcb + VMCB_EXIT_CODE], EXIT_VMMCALL
    je 4f
    dec ecx
    cmp dword ptr [rip + vmcb + VMCB_EXIT_CODE], EXIT_CPUID
    je 4f
    dec ecx
4:  add qword ptr [rip + vmcb + VMCB_RIP], rcx
    ret

# External interrupt edi into the guest: at once, or else when its window opens.
hv_interrupt:
    test dword ptr [rip + vmcb + VMCB_RFLAGS], 1 << 9
    jz 4f
    test dword ptr [rip + vmcb + VMCB_INT_STATE], 1
    jnz 4f
    mov eax, edi
    or eax, EVENT_VALID
    put VMCB_EVENT_INJ, rax
    ret
4:  mov [rip + waiting_interrupt], edi
    or dword ptr [rip + vmcb + VMCB_INT_CTL], V_IRQ | V_IGN_TPR
    intercept INTERCEPT_VINTR
    ret

# The window is open: the interrupt that waited for it.
hv_window:
    and dword ptr [rip + vmcb + VMCB_INT_CTL], ~(V_IRQ | V_IGN_TPR)
    btr dword ptr [rip + vmcb + (INTERCEPT_VINTR / 32) * 4], INTERCEPT_VINTR & 31
    mov edi, [rip + waiting_interrupt]
    jmp hv_interrupt

# Exception edi with error code esi into the guest.
hv_exception:
    mov eax, esi
    shl rax, 32
    or edi, EXCEPTION_WITH_ERROR
    or rax, rdi
    put VMCB_EVENT_INJ, rax
    ret

# The event that was being delivered when the guest left, into the guest again; INT n, whose RIP
# is that of the instruction still, is executed again.
hv_deliver_again:
    get rax, VMCB_EXIT_INT_INFO
    mov edx, eax
    and edx, EVENT_TYPE
    cmp edx, SOFTWARE_INTERRUPT
    je 4f
    put VMCB_EVENT_INJ, rax
4:  ret

# The vector of the interrupt that left the guest: L1 takes it by its gate, which notes it.
hv_take_interrupt:
    stgi
    sti
    nop
    cli
    clgi
    mov eax, [rip + taken_vector]
    ret

# The guest goes on waiting: L1 waits for the interrupt in its place, then eax is 1.
hv_wait_halted:
    stgi
    sti
    hlt
    cli
    clgi
    mov eax, 1
    ret

# Whether the guest was halted when it left: a VMCB does not say, but L1 has waited for it.
hv_is_halted:
    mov eax, 1
    ret

hv_wake:
    ret

# What a second-level fault was: eax 1 a write, 0 not; ecx 1 in a page walk, 0 not.
hv_fault_kind:
    get rdx, VMCB_EXIT_INFO_1
    mov rcx, rdx
    shr rcx, 33
    and ecx, 1
    mov eax, edx
    shr eax, 1
    and eax, 1
    ret

# A 32-bit guest: code segment, and EFER with neither LME nor LMA.
hv_code32:
    mov dword ptr [rip + vmcb + VMCB_CS_SELECTOR], CODE32_RIGHTS << 16 | CODE32
    put VMCB_EFER, EFER_SVME
    ret

# The paging of the guest: CR3 rdi, and the bits esi of CR4 instead of PAE.
hv_paging:
    put VMCB_CR3, rdi
    get rax, VMCB_CR4
    and eax, ~0x20
    or eax, esi
    put VMCB_CR4, rax
    ret

# The four PDPTEs at rdi: an AMD processor reads them from memory by itself.
hv_pdptes:
    ret

# After a page that was mapped is mapped in another way.
hv_flush:
    mov byte ptr [rip + vmcb + VMCB_TLB_CTL], FLUSH_ALL
    ret

    .bss
    .balign 4096
vmcb:
    .skip 4096
host_state:
    .skip 4096
host_save_area:
    .skip 4096
waiting_interrupt:
    .skip 4
