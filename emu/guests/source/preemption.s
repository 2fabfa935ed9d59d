# The VMX-preemption timer takes the processor from L2, which never stops by itself.

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
    mov ecx, MSR_TRUE_EXIT
    mov edi, EXIT_WANTED | VMEXIT_SAVE_VMX_PREEMPTION_TIMER_VALUE
    call allowed
    put VM_EXIT_CONTROLS, rax
    mov r12d, TURNS
4:  put VMX_PREEMPTION_TIMER_VALUE, COUNT
5:  call supervise
    cmp eax, EXIT_CPUID
    jne 6f
    call hv_skip
    jmp 5b
6:  cmp eax, EXIT_VMX_PREEMPTION_TIMER
    jne unexpected_exit
    get rbx, VMX_PREEMPTION_TIMER_VALUE
    say "L1: the preemption timer expired, its value is "
    say_decimal rbx
    say "\n"
    inc dword ptr [rip + turn]
    dec r12d
    jnz 4b
    say "L1: L2 may end\n"
    mov ecx, MSR_TRUE_PIN
    mov edi, PIN_WANTED
    call allowed
    put PIN_BASED_VM_EXEC_CONTROL, rax
7:  call supervise
    cmp eax, EXIT_CPUID
    jne 8f
    call hv_skip
    jmp 7b
8:  call finished
    mov rbx, rax
    mov ebp, TURNS
    jmp verdict

# L2 leaves for a while by CPUID now and then: the timer goes on from where it was.
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
    push rbx
    xor eax, eax
    cpuid
    pop rbx
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
