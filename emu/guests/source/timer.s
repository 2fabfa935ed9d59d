# L1's APIC timer interrupts L2; L1 gives every tick on to L2 as an interrupt.
# L2 asks for a tick when it can take it, so that what is printed does not depend on time.

    .set TICK_VECTOR, 0x40
    .set L2_VECTOR, 0x50
    .set TICKS, 10
    .set PERIOD, 20000
    .set NEXT_TICK, FIRST_FREE

    .text
    .code64
main:
    call hv_on
    mov edi, TICK_VECTOR
    call open_timer
    mov edi, L2_VECTOR
    lea rsi, [rip + l2_tick]
    call set_gate
    lea rdi, [rip + l2]
    lea rsi, [rip + guest_stack_top]
    call hv_guest
4:  call supervise
    cmp eax, EXIT_INTERRUPT
    jne 5f
    call hv_take_interrupt
    call end_of_interrupt
    inc dword ptr [rip + ticks]
    mov ebx, [rip + ticks]
    say "L1: tick "
    say_decimal rbx
    say "\n"
    mov edi, L2_VECTOR
    call hv_interrupt
    jmp 4b
5:  cmp eax, EXIT_HYPERCALL
    jne unexpected_exit
    cmp dword ptr [rip + registers], NEXT_TICK
    jne 6f
    call hv_skip
    mov edi, PERIOD
    call start_timer
    jmp 4b
6:  call finished
    mov rbx, rax
    mov ebp, TICKS
    jmp verdict

l2:
    sti
    xor ebp, ebp
4:  mov eax, NEXT_TICK
    hypercall
5:  cmp [rip + l2_ticks], ebp
    je 5b
    inc ebp
    cmp ebp, TICKS
    jb 4b
    mov ebx, [rip + l2_ticks]
    mov eax, DONE
    hypercall
    ud2

l2_tick:
    push rax
    push rbx
    push rsi
    inc dword ptr [rip + l2_ticks]
    mov ebx, [rip + l2_ticks]
    lea rsi, [rip + interrupted]
    mov eax, SAY
    hypercall
    pop rsi
    pop rbx
    pop rax
    iretq

interrupted:
    .asciz "an interrupt, number "

    .bss
    .balign 4
ticks:
    .skip 4
l2_ticks:
    .skip 4
