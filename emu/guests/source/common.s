# What both hypervisors and the scenarios use: calls of the guest, the hole, macros.
#
# A hypercall has its number in eax: SAY prints the text at rsi and the number rbx for the guest,
# DONE ends it with the result rbx; the others are the scenario's.

    .set DONE, 0
    .set SAY, 1
    .set FIRST_FREE, 2

    .set HOLE, 0x800000
    .set PAGE_SIZE, 0x1000
    .set LARGE_PAGE_SIZE, 0x200000

# SDM Vol. 3, Local APIC Register Address Map.
    .set APIC, 0xFEE00000
    .set APIC_EOI, 0xB0
    .set APIC_SPURIOUS, 0xF0
    .set APIC_TIMER, 0x320
    .set APIC_INITIAL_COUNT, 0x380
    .set APIC_DIVIDE, 0x3E0
    .set APIC_ENABLED, 0x1FF
    .set DIVIDE_BY_1, 0xB

# The guest's registers but rax and rsp, which each vendor keeps in its own way.
    .macro load_registers
    mov rcx, [rip + registers + 8]
    mov rdx, [rip + registers + 16]
    mov rbx, [rip + registers + 24]
    mov rbp, [rip + registers + 40]
    mov rsi, [rip + registers + 48]
    mov rdi, [rip + registers + 56]
    mov r8, [rip + registers + 64]
    mov r9, [rip + registers + 72]
    mov r10, [rip + registers + 80]
    mov r11, [rip + registers + 88]
    mov r12, [rip + registers + 96]
    mov r13, [rip + registers + 104]
    mov r14, [rip + registers + 112]
    mov r15, [rip + registers + 120]
    .endm

    .macro store_registers
    mov [rip + registers + 8], rcx
    mov [rip + registers + 16], rdx
    mov [rip + registers + 24], rbx
    mov [rip + registers + 40], rbp
    mov [rip + registers + 48], rsi
    mov [rip + registers + 56], rdi
    mov [rip + registers + 64], r8
    mov [rip + registers + 72], r9
    mov [rip + registers + 80], r10
    mov [rip + registers + 88], r11
    mov [rip + registers + 96], r12
    mov [rip + registers + 104], r13
    mov [rip + registers + 112], r14
    mov [rip + registers + 120], r15
    .endm

# Four levels from `second_level`: 4 GiB by large pages, the one at HOLE by an empty table.
    .macro second_level_tables table, large
    lea rdi, [rip + second_level]
    lea rax, [rdi + PAGE_SIZE + \table]
    mov [rdi], rax
    lea rax, [rdi + 2 * PAGE_SIZE + \table]
    add rdi, PAGE_SIZE
    mov ecx, 4
4:  stosq
    add rax, PAGE_SIZE
    loop 4b
    lea rdi, [rip + second_level + 2 * PAGE_SIZE]
    mov eax, \large
    mov ecx, 2048
4:  stosq
    add rax, LARGE_PAGE_SIZE
    loop 4b
    lea rax, [rip + hole_table]
    add rax, \table
    mov [rip + second_level + 2 * PAGE_SIZE + (HOLE / LARGE_PAGE_SIZE) * 8], rax
    .endm
