# What the two hypervisors have in common.

    .text
    .code64

# Map the page of the hole at guest-physical rdi to itself with the rights esi.
hv_map_small:
    mov eax, edi
    sub eax, HOLE
    shr eax, 12
    and edi, -PAGE_SIZE
    or edi, esi
    lea rdx, [rip + hole_table]
    mov [rdx + rax * 8], rdi
    jmp hv_flush

# Run the guest and do what it asks for, until an exit that is the scenario's: its reason in eax.
supervise:
    call hv_run
    cmp eax, EXIT_HYPERCALL
    jne 4f
    cmp dword ptr [rip + registers], SAY
    jne 4f
    say "L2: "
    mov esi, [rip + registers + 48]
    call print_text
    mov rbx, [rip + registers + 24]
    say_hex rbx
    say "\n"
    call hv_skip
    jmp supervise
4:  cmp eax, EXIT_WINDOW
    jne 4f
    say "L1: the interrupt window opens\n"
    call hv_window
    jmp supervise
4:  ret

# The local APIC's timer in one-shot mode, with vector edi.
open_timer:
    mov ecx, APIC
    mov dword ptr [rcx + APIC_SPURIOUS], APIC_ENABLED
    mov dword ptr [rcx + APIC_DIVIDE], DIVIDE_BY_1
    mov [rcx + APIC_TIMER], edi
    mov [rip + timer_vector], edi
    lea rsi, [rip + take_tick]
    jmp set_gate

# Start it with count edi.
start_timer:
    mov ecx, APIC
    mov [rcx + APIC_INITIAL_COUNT], edi
    ret

end_of_interrupt:
    mov ecx, APIC
    mov dword ptr [rcx + APIC_EOI], 0
    ret

# The timer's interrupt, where L1 takes it by its gate.
take_tick:
    push rax
    mov eax, [rip + timer_vector]
    mov [rip + taken_vector], eax
    pop rax
    iretq

# The last exit must have been the guest's DONE: its result in rax.
finished:
    cmp eax, EXIT_HYPERCALL
    jne unexpected_exit
    cmp dword ptr [rip + registers], DONE
    jne unexpected_exit
    mov rax, [rip + registers + 24]
    ret

unexpected_exit:
    mov ebx, eax
    get rbp, L2_RIP
    say "L1: unexpected exit "
    say_decimal rbx
    say " at "
    say_hex rbp
    say "\n"
    mov edi, 3
    jmp exit

# The result rbx of the guest against rbp, what it should be: the status of the machine in eax.
verdict:
    say "L1: L2 is done, with "
    say_hex rbx
    cmp rbx, rbp
    je 4f
    say ", not "
    say_hex rbp
    say "\n"
    mov eax, 4
    ret
4:  say ", as it should\n"
    xor eax, eax
    ret

    .bss
    .balign 4096
second_level:
    .skip 6 * 4096
hole_table:
    .skip 4096
    .balign 16
    .skip 0x4000
guest_stack_top:
registers:
    .skip 128
timer_vector:
    .skip 4
taken_vector:
    .skip 4
