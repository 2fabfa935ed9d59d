# A 32-bit L2 with PAE paging that changes one of its four PDPTEs.

    .set FIRST, 0xA00000
    .set SECOND, 0xC00000
    .set FIRST_VALUE, 0x1111
    .set SECOND_VALUE, 0x2222
    .set VIRTUAL, 0xC0000000
    .set PRESENT, 1
    .set CR4_PAE, 0x20

    .text
    .code64
main:
    call hv_on
    mov edi, FIRST
    mov qword ptr [rdi], FIRST_VALUE
    mov edi, SECOND
    mov qword ptr [rdi], SECOND_VALUE
    mov eax, offset page_directories + PRESENT
    mov [rip + l2_pdptes], rax
    mov eax, offset first_directory + PRESENT
    mov [rip + l2_pdptes + 24], rax
    mov qword ptr [rip + first_directory], FIRST | LARGE_PAGE
    mov qword ptr [rip + second_directory], SECOND | LARGE_PAGE
    lea rdi, [rip + l2]
    lea rsi, [rip + guest_stack_top]
    call hv_guest
    call hv_code32
    lea rdi, [rip + l2_pdptes]
    mov esi, CR4_PAE
    call hv_paging
    lea rdi, [rip + l2_pdptes]
    call hv_pdptes
    say "L1: L2 uses PAE paging\n"
    call supervise
    call finished
    mov rbx, rax
    mov ebp, FIRST_VALUE + SECOND_VALUE
    jmp verdict

    .code32
l2:
    mov edi, VIRTUAL
    mov ebx, [edi]
    mov edx, ebx
    mov esi, offset through_first
    mov eax, SAY
    hypercall
    mov eax, offset second_directory + PRESENT
    mov [l2_pdptes + 24], eax
    mov eax, cr3
    mov cr3, eax
    mov ebx, [edi]
    mov esi, offset through_second
    mov eax, SAY
    hypercall
    add ebx, edx
    mov eax, DONE
    hypercall
    ud2

through_first:
    .asciz "through the first directory "
through_second:
    .asciz "after a new PDPTE and MOV to CR3 "

    .bss
    .balign 4096
l2_pdptes:
    .skip 4096
first_directory:
    .skip 4096
second_directory:
    .skip 4096
