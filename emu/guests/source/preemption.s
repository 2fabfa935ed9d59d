# The VMX-preemption timer takes the processor from L2, which never stops by itself.
#
# L1 does not have the timer's value saved: it counts down in one go for as long as L2 leaves for
# nobody but what is beneath L1.

    .set TURNS, 5
    .set COUNT, 2000

    .text
    .code64
main:
    call hv_on
    lea rdi, [rip + l2]
    lea rsi, [rip + guest_stack_top]
    call hv_guest
    mov ecx, MSR_TRUE_PIN
    mov edi, PIN_WANTED | PIN_ACTIVATE_VMX_PREEMPTION_TIMER
    call allowed
    put PIN_BASED_VM_EXEC_CONTROL, rax
    mov r12d, TURNS
    put VMX_PREEMPTION_TIMER_VALUE, COUNT
4:  call supervise
    cmp eax, EXIT_VMX_PREEMPTION_TIMER
    jne unexpected_exit
    inc dword ptr [rip + turn]
    mov ebx, [rip + turn]
    say "L1: the preemption timer expired, time "
    say_decimal rbx
    say "\n"
    dec r12d
    jnz 4b
    say "L1: L2 may end\n"
    mov ecx, MSR_TRUE_PIN
    mov edi, PIN_WANTED
    call allowed
    put PIN_BASED_VM_EXEC_CONTROL, rax
    call supervise
    call finished
    mov rbx, rax
    mov ebp, TURNS
    jmp verdict

# L2 looks at the serial port now and then, which L1 lets it do: the timer goes on.
l2:
    xor ebx, ebx
4:  mov esi, [rip + turn]
    cmp esi, ebx
    je 5f
    mov ebx, esi
    mov eax, SAY
    lea rsi, [rip + seen]
    hypercall
    cmp ebx, TURNS
    je 9f
5:  mov ecx, 100
6:  loop 6b
    mov edx, LINE_STATUS
    in al, dx
    jmp 4b
9:  mov eax, DONE
    hypercall
    ud2

seen:
    .asciz "I have been stopped, times "

    .bss
    .balign 4
turn:
    .skip 4
