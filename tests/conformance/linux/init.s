# The init of the tests: it says which kernel it runs on, loads the modules /0.ko, /1.ko, ... that
# the archive has, asks KVM what it can do when there are any, and powers the machine off.
# Linux: arch/x86/entry/syscalls/syscall_64.tbl; reboot(2), finit_module(2), ioctl(2).

    .set SYS_WRITE, 1
    .set SYS_OPEN, 2
    .set SYS_CLOSE, 3
    .set SYS_IOCTL, 16
    .set SYS_UNAME, 63
    .set SYS_MKNOD, 133
    .set SYS_REBOOT, 169
    .set SYS_FINIT_MODULE, 313

    .set STDOUT, 1
    .set O_RDWR, 2
    .set S_IFCHR_0600, 0x2180
    .set KVM_DEVICE, 10 << 8 | 232          # include/linux/miscdevice.h: KVM_MINOR
    .set KVM_CHECK_EXTENSION, 0xAE03
    .set KVM_CAP_NESTED_STATE, 157
    .set REBOOT_MAGIC1, 0xFEE1DEAD
    .set REBOOT_MAGIC2, 672274793
    .set REBOOT_POWER_OFF, 0x4321FEDC

    .set UTS_FIELD, 65                      # sysname nodename release version machine domainname
    .set UTS_SIZE, 6 * UTS_FIELD

    .macro system number
    mov eax, \number
    syscall
    .endm

    .macro say text
    lea rsi, [rip + 8f]
    call print
    .section .rodata
8:  .asciz "\text"
    .text
    .endm

    .text
start:
    sub rsp, UTS_SIZE + 10                  # keeps the stack aligned
    mov rbp, rsp
    mov rdi, rbp
    system SYS_UNAME
    say "init: "
    mov rsi, rbp
    call print
    say " "
    lea rsi, [rbp + 2 * UTS_FIELD]
    call print
    say " "
    lea rsi, [rbp + 4 * UTS_FIELD]
    call print
    say "\n"
    call load_modules
    test r12d, r12d
    jz 1f
    call ask_kvm
1:  mov edi, REBOOT_MAGIC1
    mov esi, REBOOT_MAGIC2
    mov edx, REBOOT_POWER_OFF
    system SYS_REBOOT
    ud2

# How many there are is left in r12d.
load_modules:
    xor r12d, r12d
1:  lea rax, [r12 + '0']
    mov [rip + module + 1], al
    lea rdi, [rip + module]
    xor esi, esi
    xor edx, edx
    system SYS_OPEN
    test eax, eax
    js 2f
    mov ebx, eax
    mov edi, eax
    lea rsi, [rip + empty]
    xor edx, edx
    system SYS_FINIT_MODULE
    movsxd r13, eax
    mov edi, ebx
    system SYS_CLOSE
    say "init: module "
    mov eax, r12d
    call print_number
    say ": "
    mov rax, r13
    call print_number
    say "\n"
    inc r12d
    jmp 1b
2:  ret

ask_kvm:
    lea rdi, [rip + device]
    mov esi, S_IFCHR_0600
    mov edx, KVM_DEVICE
    system SYS_MKNOD
    lea rdi, [rip + device]
    mov esi, O_RDWR
    xor edx, edx
    system SYS_OPEN
    mov edi, eax
    mov esi, KVM_CHECK_EXTENSION
    mov edx, KVM_CAP_NESTED_STATE
    system SYS_IOCTL
    movsxd r13, eax
    say "init: KVM_CAP_NESTED_STATE: "
    mov rax, r13
    call print_number
    say "\n"
    ret

# The text at rsi, up to a zero.
print:
    mov rdx, -1
1:  inc rdx
    cmp byte ptr [rsi + rdx], 0
    jne 1b
    mov edi, STDOUT
    system SYS_WRITE
    ret

# The signed number in rax.
print_number:
    sub rsp, 40
    lea rsi, [rsp + 32]
    mov byte ptr [rsi], 0
    mov rdi, rax
    neg rax
    cmovs rax, rdi
    mov ecx, 10
1:  xor edx, edx
    div rcx
    add dl, '0'
    dec rsi
    mov [rsi], dl
    test rax, rax
    jnz 1b
    test rdi, rdi
    jns 2f
    dec rsi
    mov byte ptr [rsi], '-'
2:  call print
    add rsp, 40
    ret

    .data
module:
    .asciz "/0.ko"
device:
    .asciz "/dev/kvm"
empty:
    .byte 0
