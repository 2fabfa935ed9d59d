# From the boot loader to `main` in 64-bit mode. Multiboot Specification, I386 machine state.
#
# `main` returns the status of the machine in eax. All memory below 4 GiB is mapped to itself.

    .set CODE64, 0x08
    .set DATA, 0x10
    .set TASK, 0x18
    .set CODE32, 0x28

    .set MULTIBOOT_MAGIC, 0x1BADB002
    .set ADDRESS_FIELDS, 1 << 16

    .set MSR_EFER, 0xC0000080
    .set EFER_LME_NXE, 0x900
    .set CR0_PG_NE_PE, 0x80000021
    .set CR0_CD_NW, 0x60000000
    .set CR4_PAE_OSFXSR_OSXMMEXCPT, 0x620
    .set PRESENT_WRITABLE, 3
    .set LARGE_PAGE, 0x83

    .set MASTER_8259, 0x21
    .set SLAVE_8259, 0xA1
    .set DEBUG_EXIT_PORT, 0xF4
    .set UNEXPECTED, 99
    .set STUB_SIZE, 16

    .text
    .code32
    .balign 4
header:
    .long MULTIBOOT_MAGIC, ADDRESS_FIELDS, -(MULTIBOOT_MAGIC + ADDRESS_FIELDS)
    .long header, IMAGE_START, IMAGE_END, BSS_END, start

start:
    cli
    cld
    mov esp, offset stack_top
    mov eax, offset pdpt + PRESENT_WRITABLE
    mov [pml4], eax
    mov eax, offset page_directories + PRESENT_WRITABLE
    mov edi, offset pdpt
    mov ecx, 4
4:  mov [edi], eax
    add eax, 0x1000
    add edi, 8
    loop 4b
    mov eax, LARGE_PAGE
    mov edi, offset page_directories
    mov ecx, 2048
4:  mov [edi], eax
    add eax, 0x200000
    add edi, 8
    loop 4b

    mov eax, offset pml4
    mov cr3, eax
    mov eax, CR4_PAE_OSFXSR_OSXMMEXCPT
    mov cr4, eax
    mov ecx, MSR_EFER
    rdmsr
    or eax, EFER_LME_NXE
    wrmsr
    mov eax, cr0
    and eax, ~CR0_CD_NW
    or eax, CR0_PG_NE_PE
    mov cr0, eax
    lgdt [gdt_pointer]
    mov eax, offset in_long_mode
    push CODE64
    push eax
    retf

    .code64
in_long_mode:
    mov eax, DATA
    mov ds, eax
    mov es, eax
    mov ss, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    mov esp, offset stack_top
    mov eax, offset task_state
    mov word ptr [rip + task_descriptor + 2], ax
    shr eax, 16
    mov byte ptr [rip + task_descriptor + 4], al
    mov byte ptr [rip + task_descriptor + 7], ah
    mov eax, TASK
    ltr ax
    mov al, 0xFF
    out MASTER_8259, al
    out SLAVE_8259, al
    call fill_idt
    lidt [rip + idt_pointer]
    call open_console
    call main
    mov edi, eax

# End the machine with status edi.
exit:
    call close_console
    mov eax, edi
    mov edx, DEBUG_EXIT_PORT
    out dx, eax
4:  cli
    hlt
    jmp 4b

# Gates for the 32 exceptions, each to its stub.
fill_idt:
    xor edi, edi
    mov esi, offset exception_stubs
4:  call set_gate
    add esi, STUB_SIZE
    inc edi
    cmp edi, 32
    jne 4b
    ret

# An interrupt gate for vector edi to the code at rsi. Changes rax and rdx.
set_gate:
    mov eax, edi
    shl eax, 4
    lea rdx, [rip + idt]
    add rdx, rax
    mov eax, esi
    mov word ptr [rdx], ax
    mov word ptr [rdx + 2], CODE64
    mov word ptr [rdx + 4], 0x8E00
    shr eax, 16
    mov word ptr [rdx + 6], ax
    mov qword ptr [rdx + 8], 0
    ret

# SDM Vol. 3, Protected-Mode Exceptions and Interrupts: those that push an error code.
    .set WITH_ERROR_CODE, 0x60227D00
    .balign STUB_SIZE
exception_stubs:
    .set vector, 0
    .rept 32
    .balign STUB_SIZE
    .if ((WITH_ERROR_CODE >> vector) & 1) == 0
    push 0
    .endif
    push vector
    jmp unexpected_exception
    .set vector, vector + 1
    .endr

unexpected_exception:
    pop rbx
    pop rbp
    pop r12
    mov r13, cr2
    say "unexpected exception "
    say_decimal rbx
    say ", error code "
    say_hex rbp
    say ", at "
    say_hex r12
    say ", CR2 "
    say_hex r13
    say "\n"
    mov edi, UNEXPECTED
    jmp exit

    .balign 8
gdt:
    .quad 0
    .quad 0x00AF9B000000FFFF
    .quad 0x00CF93000000FFFF
task_descriptor:
    .quad 0x0000890000000067, 0
    .quad 0x00CF9B000000FFFF
gdt_pointer:
    .set GDT_LIMIT, gdt_pointer - gdt - 1
    .word GDT_LIMIT
    .quad gdt
idt_pointer:
    .word 256 * 16 - 1
    .quad idt

    .bss
    .balign 4096
pml4:
    .skip 4096
pdpt:
    .skip 4096
page_directories:
    .skip 4 * 4096
idt:
    .skip 256 * 16
task_state:
    .skip 128
    .balign 16
    .skip 0x4000
stack_top:
