# A 32-bit L2 under a 64-bit L1: 32-bit paging, rings 0 and 3, calls by INT 80H.

    .set CALL_VECTOR, 0x80
    .set GP, 13
    .set KERNEL_CODE, 0x08
    .set KERNEL_DATA, 0x10
    .set USER_CODE, 0x1B
    .set USER_DATA, 0x23
    .set L2_TASK, 0x28
    .set CALLS, 5
    .set CR4_PSE, 0x10
    .set USER_LARGE_PAGE, 0x87
    .set INTERRUPT_GATE, 0x8E00
    .set CALL_GATE, 0xEE00

    .text
    .code64
main:
    call hv_on
    lea rdi, [rip + l2_directory]
    mov eax, USER_LARGE_PAGE
    mov ecx, 1024
4:  stosd
    add eax, 0x400000
    loop 4b
    lea rdi, [rip + l2]
    lea rsi, [rip + guest_stack_top]
    call hv_guest
    call hv_code32
    lea rdi, [rip + l2_directory]
    mov esi, CR4_PSE
    call hv_paging
    say "L1: L2 is a 32-bit kernel\n"
    call supervise
    call finished
    mov rbx, rax
    mov ebp, CALLS * (CALLS + 1) / 2
    jmp verdict

    .code32
    .macro gate vector, handler, kind
    mov eax, offset \handler
    mov [l2_idt + \vector * 8], ax
    mov word ptr [l2_idt + \vector * 8 + 2], KERNEL_CODE
    mov word ptr [l2_idt + \vector * 8 + 4], \kind
    shr eax, 16
    mov [l2_idt + \vector * 8 + 6], ax
    .endm

l2:
    lgdt [l2_gdt_pointer]
    mov eax, offset reload
    push KERNEL_CODE
    push eax
    retf
reload:
    mov eax, KERNEL_DATA
    mov ds, eax
    mov es, eax
    mov ss, eax
    gate GP, l2_general_protection, INTERRUPT_GATE
    gate CALL_VECTOR, l2_call, CALL_GATE
    lidt [l2_idt_pointer]
    mov eax, offset l2_task
    mov [l2_task_descriptor + 2], ax
    shr eax, 16
    mov [l2_task_descriptor + 4], al
    mov [l2_task_descriptor + 7], ah
    mov eax, offset guest_stack_top
    mov [l2_task + 4], eax
    mov dword ptr [l2_task + 8], KERNEL_DATA
    mov eax, L2_TASK
    ltr ax
    xor edi, edi
    push USER_DATA
    mov eax, offset user_stack_top
    push eax
    push 0x202
    push USER_CODE
    mov eax, offset l2_user
    push eax
    iretd

# Ring 3: a few calls, then an instruction that is not its own.
l2_user:
    mov ecx, CALLS
4:  mov ebx, ecx
    int CALL_VECTOR
    loop 4b
    hlt

l2_call:
    add edi, ebx
    mov esi, offset called
    mov eax, SAY
    hypercall
    iretd

l2_general_protection:
    pop ebx
    pop ebx
    mov esi, offset protected
    mov eax, SAY
    sub ebx, offset l2_user
    hypercall
    mov ebx, edi
    mov eax, DONE
    hypercall
    ud2

called:
    .asciz "ring 3 calls with "
protected:
    .asciz "ring 3 executed HLT, #GP at its offset "

    .balign 8
l2_gdt:
    .quad 0
    .quad 0x00CF9B000000FFFF
    .quad 0x00CF93000000FFFF
    .quad 0x00CFFB000000FFFF
    .quad 0x00CFF3000000FFFF
l2_task_descriptor:
    .quad 0x0000890000000067
l2_gdt_pointer:
    .word l2_gdt_pointer - l2_gdt - 1
    .long l2_gdt
l2_idt_pointer:
    .word 256 * 8 - 1
    .long l2_idt

    .bss
    .balign 4096
l2_directory:
    .skip 4096
l2_idt:
    .skip 256 * 8
l2_task:
    .skip 128
    .skip 0x1000
user_stack_top:
