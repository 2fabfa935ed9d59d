# Lines on the first serial port, a 16550A. Each routine keeps every register but the flags.

    .set SERIAL, 0x3F8
    .set FIFO_CONTROL, SERIAL + 2
    .set LINE_STATUS, SERIAL + 5
    .set FIFO_SIZE, 16
    .set EMPTY, 1 << 5
    .set IDLE, 1 << 6

    .macro say text
    call print
    .asciz "\text"
    .endm

    .macro say_hex value
    push rax
    .ifnc \value, rax
    mov rax, \value
    .endif
    call print_hex
    pop rax
    .endm

    .macro say_decimal value
    push rax
    .ifnc \value, rax
    mov rax, \value
    .endif
    call print_decimal
    pop rax
    .endm

    .text
    .code64
open_console:
    mov edx, FIFO_CONTROL
    mov al, 1
    out dx, al
    ret

# Wait until every character is on the line.
close_console:
    mov edx, LINE_STATUS
4:  in al, dx
    test al, IDLE
    jz 4b
    ret

# The character in al; waits for an empty FIFO once in 16.
put_character:
    push rdx
    push rax
    sub byte ptr [rip + fifo_room], 1
    jnc 2f
    mov edx, LINE_STATUS
4:  in al, dx
    test al, EMPTY
    jz 4b
    mov byte ptr [rip + fifo_room], FIFO_SIZE - 1
2:  mov edx, SERIAL
    mov al, [rsp]
    out dx, al
    pop rax
    pop rdx
    ret

# The text behind the call, up to a zero; returns behind that.
print:
    xchg rsi, [rsp]
    call print_text
    xchg rsi, [rsp]
    ret

# The text at rsi; leaves rsi behind its zero.
print_text:
    push rax
4:  lodsb
    test al, al
    jz 2f
    call put_character
    jmp 4b
2:  pop rax
    ret

# rax in base 16, after "0x".
print_hex:
    push rbx
    mov ebx, 16
    say "0x"
    jmp print_in_base

# rax in base 10.
print_decimal:
    push rbx
    mov ebx, 10
print_in_base:
    push rax
    push rcx
    push rdx
    xor ecx, ecx
4:  xor edx, edx
    div rbx
    push rdx
    inc ecx
    test rax, rax
    jnz 4b
2:  pop rax
    cmp al, 10
    jb 3f
    add al, 'a' - 10 - '0'
3:  add al, '0'
    call put_character
    loop 2b
    pop rdx
    pop rcx
    pop rax
    pop rbx
    ret

    .bss
fifo_room:
    .skip 1
