# Events into L2 that meet a page fault of the second level on their way, or a closed window.

    .set L2_VECTOR, 0x50
    .set SOFTWARE_VECTOR, 0x51
    .set GP, 13
    .set ERROR_CODE, 0x1234
    .set L2_IDT, HOLE + PAGE_SIZE

    .set WANT_INTERRUPT, FIRST_FREE
    .set WANT_EXCEPTION, FIRST_FREE + 1
    .set HIDE_IDT, FIRST_FREE + 2

    .text
    .code64
main:
    call hv_on
    mov edi, L2_VECTOR
    lea rsi, [rip + l2_interrupt]
    call set_gate
    mov edi, SOFTWARE_VECTOR
    lea rsi, [rip + l2_software_interrupt]
    call set_gate
    lea rsi, [rip + idt]
    mov edi, L2_IDT
    mov ecx, 512
    rep movsq
    mov eax, offset l2_general_protection
    mov edi, L2_IDT + GP * 16
    mov [rdi], ax
    shr eax, 16
    mov [rdi + 6], ax
    lea rdi, [rip + l2]
    lea rsi, [rip + guest_stack_top]
    call hv_guest
    put L2_IDTR_BASE, L2_IDT

next:
    call supervise
    cmp eax, EXIT_SECOND_LEVEL
    je map_idt
    cmp eax, EXIT_HYPERCALL
    jne unexpected_exit
    mov ebx, [rip + registers]
    cmp ebx, DONE
    je 9f
    call hv_skip
    cmp ebx, WANT_INTERRUPT
    jne 5f
    get rax, L2_RFLAGS
    test eax, 1 << 9
    jnz 4f
    say "L1: L2 masks interrupts\n"
4:  say "L1: vector 0x50 for L2\n"
    mov edi, L2_VECTOR
    call hv_interrupt
    jmp next
5:  cmp ebx, WANT_EXCEPTION
    jne 6f
    say "L1: #GP for L2\n"
    mov edi, GP
    mov esi, ERROR_CODE
    call hv_exception
    jmp next
6:  say "L1: L2's IDT goes\n"
    mov edi, L2_IDT
    xor esi, esi
    call hv_map_small
    jmp next
9:  mov rbx, [rip + registers + 24]
    mov ebp, L2_VECTOR + ERROR_CODE + L2_VECTOR + SOFTWARE_VECTOR
    jmp verdict

# L2's IDT is not mapped: an event is on its way, and goes on once it is.
map_idt:
    get rbx, L2_FAULT_ADDRESS
    get rbp, L2_IN_DELIVERY
    bt ebp, 31
    jnc unexpected_exit
    movzx r12d, bpl
    say "L1: fault at "
    say_hex rbx
    say " in the delivery of vector "
    say_hex r12
    say "\n"
    mov edi, ebx
    mov esi, SMALL_PAGE
    call hv_map_small
    call hv_deliver_again
    jmp next

l2:
    xor r15d, r15d
    sti
    mov eax, WANT_INTERRUPT
    hypercall
    mov eax, WANT_EXCEPTION
    hypercall
    cli
    mov eax, WANT_INTERRUPT
    hypercall
    mov eax, SAY
    lea rsi, [rip + masked]
    mov rbx, r15
    hypercall
    sti
    nop
    mov eax, HIDE_IDT
    hypercall
    int SOFTWARE_VECTOR
    mov rbx, r15
    mov eax, DONE
    hypercall
    ud2

l2_general_protection:
    pop rbx
    jmp arrived
l2_interrupt:
    mov ebx, L2_VECTOR
    jmp arrived
l2_software_interrupt:
    mov ebx, SOFTWARE_VECTOR
arrived:
    add r15, rbx
    mov eax, SAY
    lea rsi, [rip + event]
    hypercall
    iretq

masked:
    .asciz "interrupts are masked, sum of events "
event:
    .asciz "an event, "
