# L2 waits in HLT: with L1 told of it, and on VMX also without.

    .set TICK_VECTOR, 0x40
    .set L2_VECTOR, 0x50
    .set WAITS, 3
    .set PERIOD, 20000

    .text
    .code64
main:
    call hv_on
    mov edi, TICK_VECTOR
    call open_timer
    mov edi, L2_VECTOR
    lea rsi, [rip + l2_interrupt]
    call set_gate
    lea rdi, [rip + l2]
    lea rsi, [rip + guest_stack_top]
    call hv_guest
next:
    call supervise
    cmp eax, EXIT_HALT
    je halts
    cmp eax, EXIT_INTERRUPT
    je interrupt
    cmp eax, EXIT_HYPERCALL
    jne unexpected_exit
    .if VMX
    cmp dword ptr [rip + registers], FIRST_FREE
    jne 9f
    call hv_skip
    say "L1: HLT is L2's own now\n"
    call hv_own_halt
    mov edi, PERIOD
    call start_timer
    jmp next
    .endif
9:  call finished
    mov rbx, rax
    mov ebp, WAITS
    jmp verdict

halts:
    say "L1: L2 halts\n"
    call hv_skip
    mov edi, PERIOD
    call start_timer
    call hv_wait_halted
    test eax, eax
    jz next
interrupt:
    call hv_take_interrupt
    call end_of_interrupt
    call hv_is_halted
    say "L1: an interrupt, L2 is "
    test eax, eax
    jnz 4f
    say "not "
4:  say "halted\n"
    mov edi, L2_VECTOR
    call hv_interrupt
    call hv_wake
    jmp next

l2:
    sti
    mov ebp, WAITS
4:  cmp ebp, 1
    jne 5f
    .if VMX
    mov eax, FIRST_FREE
    hypercall
    .endif
5:  hlt
    mov ebx, [rip + interrupts]
    lea rsi, [rip + woken]
    mov eax, SAY
    hypercall
    dec ebp
    jnz 4b
    mov ebx, [rip + interrupts]
    mov eax, DONE
    hypercall
    ud2

l2_interrupt:
    inc dword ptr [rip + interrupts]
    iretq

woken:
    .asciz "awake, interrupts "

    .bss
    .balign 4
interrupts:
    .skip 4
