# L2 churns registers and memory; L1 does the same work itself and compares.

    .set ROUNDS, 8
    .set WORDS, 4096
    .set LEAF, 0x40000000

    .text
    .code64
main:
    call hv_on
    lea rdi, [rip + l2]
    lea rsi, [rip + guest_stack_top]
    call hv_guest
    say "L1: L2 churns\n"
4:  call supervise
    cmp eax, EXIT_CPUID
    jne 2f
    cmp dword ptr [rip + registers], LEAF
    jne unexpected_exit
    inc dword ptr [rip + answered]
    mov eax, [rip + answered]
    mov [rip + registers + 24], rax
    call hv_skip
    jmp 4b
2:  call finished
    mov rbx, rax
    call clear_buffer
    mov r12d, ROUNDS
    mov eax, 1
4:  call churn
    dec r12d
    jnz 4b
    mov rbp, rax
    jmp verdict

clear_buffer:
    lea rdi, [rip + buffer]
    xor eax, eax
    mov ecx, WORDS
    rep stosq
    ret

# One round over the buffer, from the checksum rax to the next one. Keeps r12 and above.
churn:
    mov r8, 0x9E3779B97F4A7C15
    lea rdi, [rip + buffer]
    mov ecx, WORDS
4:  mov rdx, [rdi]
    add rdx, r8
    mov r9, rdx
    shl r9, 13
    xor rdx, r9
    mov r9, rdx
    shr r9, 7
    xor rdx, r9
    imul rdx, r8
    rol rax, 5
    xor rax, rdx
    adc rax, rcx
    bswap rdx
    mov [rdi], rdx
    add rdi, 8
    loop 4b
    movq xmm0, rax
    movq xmm1, r8
    pmuludq xmm0, xmm1
    movq rdx, xmm0
    xor rax, rdx
    ret

l2:
    mov r14d, 1
    xor r13d, r13d
    mov r12d, ROUNDS
4:  mov rax, r14
    call churn
    mov r14, rax
    mov eax, LEAF
    cpuid
    add r13, rbx
    mov eax, SAY
    lea rsi, [rip + after_round]
    mov rbx, r14
    hypercall
    dec r12d
    jnz 4b
    say "L2: I can print by myself\n"
    cmp r13d, ROUNDS * (ROUNDS + 1) / 2
    je 4f
    xor r14d, r14d
4:  mov rbx, r14
    mov eax, DONE
    hypercall
    ud2

after_round:
    .asciz "a round more, checksum "

    .bss
answered:
    .skip 4
buffer:
    .skip WORDS * 8
