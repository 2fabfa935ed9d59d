# L2 reads and writes a VMCS of its own: L1 has linked it as a shadow, and looks at it afterwards.

    .set SHADOW_BIT, 31
    .set VALUE, 0x123456789ABC
    .set TRAPPED, HOST_RIP

    .text
    .code64
main:
    call hv_on
    bts dword ptr [rip + shadow_vmcs], SHADOW_BIT
    mov eax, offset shadow_vmcs
    mov [rip + pointer], rax
    vmclear [rip + pointer]
    jbe vm_failed
    bts dword ptr [rip + vmread_bitmap + (TRAPPED >> 5) * 4], TRAPPED & 31
    lea rdi, [rip + l2]
    lea rsi, [rip + guest_stack_top]
    call hv_guest
    mov ecx, MSR_PROC2
    mov edi, PROC2_WANTED | PROC2_VMCS_SHADOWING
    call allowed
    put SECONDARY_VM_EXEC_CONTROL, rax
    mov eax, offset shadow_vmcs
    put VMCS_LINK_POINTER, rax
    mov eax, offset vmread_bitmap
    put VMREAD_BITMAP, rax
    mov eax, offset vmwrite_bitmap
    put VMWRITE_BITMAP, rax
    say "L1: L2 has a shadow VMCS\n"
    call supervise
    cmp eax, EXIT_VMREAD
    jne unexpected_exit
    say "L1: L2's VMREAD of a field that I keep\n"
    call hv_skip
    call supervise
    call finished
    mov rbx, rax

    mov eax, offset vmcs
    mov [rip + pointer], rax
    vmclear [rip + pointer]
    jbe vm_failed
    mov eax, offset shadow_vmcs
    mov [rip + pointer], rax
    vmclear [rip + pointer]
    jbe vm_failed
    btr dword ptr [rip + shadow_vmcs], SHADOW_BIT
    vmptrld [rip + pointer]
    jbe vm_failed
    get rbp, GUEST_RIP
    say "L1: in the shadow VMCS, GUEST_RIP is "
    say_hex rbp
    say "\n"
    jmp verdict

l2:
    mov edx, GUEST_RIP
    mov rcx, VALUE
    vmwrite rdx, rcx
    jbe 9f
    vmread rbx, rdx
    jbe 9f
    mov eax, SAY
    lea rsi, [rip + read]
    hypercall
    mov edx, TRAPPED
    vmread rcx, rdx
    mov eax, DONE
    hypercall
9:  ud2

read:
    .asciz "VMWRITE and VMREAD of GUEST_RIP without an exit: "

    .bss
    .balign 4096
vmread_bitmap:
    .skip 4096
vmwrite_bitmap:
    .skip 4096
