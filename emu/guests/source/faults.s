# L2 touches pages that L1 maps on demand: read-only first, writable when L2 writes.

    .set PAGES, 4
    .set WRITTEN, 0x10
    .set TABLE, HOLE + PAGES * PAGE_SIZE
    .set TARGET, TABLE + PAGE_SIZE
    .set TARGET_VALUE, 0x100
    .set VIRTUAL, 0x40000000
    .set RESULT, (1 + 2 + 3 + 4) + (4 * WRITTEN + 6) + TARGET_VALUE

    .text
    .code64
main:
    call hv_on
    mov ecx, PAGES
    mov edi, HOLE
    mov eax, 1
4:  mov [rdi], rax
    add edi, PAGE_SIZE
    inc eax
    loop 4b
    mov eax, TARGET + PRESENT_WRITABLE
    mov edi, TABLE
    mov [rdi], rax
    mov edi, TARGET
    mov qword ptr [rdi], TARGET_VALUE
    lea rdi, [rip + l2]
    lea rsi, [rip + guest_stack_top]
    call hv_guest
4:  call supervise
    cmp eax, EXIT_SECOND_LEVEL
    jne 9f
    get rbx, L2_FAULT_ADDRESS
    call hv_fault_kind
    mov esi, SMALL_PAGE
    test ecx, ecx
    jnz 6f
    test eax, eax
    jnz 5f
    mov esi, SMALL_PAGE_READ_ONLY
    say "L1: L2 reads "
    jmp 7f
5:  say "L1: L2 writes "
    jmp 7f
6:  say "L1: L2's page walk meets "
    and rbx, -PAGE_SIZE
7:  say_hex rbx
    say "\n"
    mov edi, ebx
    call hv_map_small
    jmp 4b
9:  call finished
    mov rbx, rax
    mov ebp, RESULT
    jmp verdict

l2:
    xor ebx, ebx
    mov ecx, PAGES
    mov edi, HOLE
4:  add rbx, [rdi]
    add edi, PAGE_SIZE
    loop 4b
    mov eax, SAY
    lea rsi, [rip + sum_read]
    hypercall
    mov ecx, PAGES
    mov edi, HOLE
    mov eax, WRITTEN
4:  mov [rdi], rax
    add rbx, [rdi]
    inc eax
    add edi, PAGE_SIZE
    loop 4b
    mov eax, SAY
    lea rsi, [rip + sum_written]
    hypercall
    lea rdi, [rip + page_directories + (VIRTUAL >> 21) * 8]
    mov qword ptr [rdi], TABLE + PRESENT_WRITABLE
    mov edi, VIRTUAL
    invlpg [rdi]
    add rbx, [rdi]
    mov eax, DONE
    hypercall
    ud2

sum_read:
    .asciz "read all pages, sum "
sum_written:
    .asciz "wrote and read all pages, sum "
