"""The state of one logical processor: one flat block, described by one table, a field a row."""

from __future__ import annotations

from enum import IntEnum

from emu.cpu.compiler.layout import Field, Layout

WORD = (1 << 64) - 1
GPR_NAMES = (
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
)  # fmt: skip
ZERO_REGISTER = 16
PAGE_BASE_REGISTER = 17
ADDRESS_REGISTER = 18

ES, CS, SS, DS, FS, GS, LDTR, TR = range(8)

DTLB_ENTRIES = 256
ITLB_ENTRIES = 64
JUMP_ENTRIES = 1024
BLOCK_ENTRIES = 1 << 16
TLB_CONTEXTS = 4
# kinds of data access that see different permissions; STRICT is never filled, so that each
# access takes the slow path, where alignment and data breakpoints are checked
SUPERVISOR, SUPERVISOR_AC, USER, STRICT = range(4)


# what inhibits events for one instruction: shadow_kind
STI, MOV_SS = 1, 2


class Exit(IntEnum):
    """Why compiled code came back."""

    NONE = 0
    BUDGET = 1  # the instructions granted are used up
    DECODE = 2  # no decoded block at exit_address (guest-physical)
    EXCEPTION = 3  # exit_vector, exit_error; exit_address is CR2
    SYSTEM = 4  # the instruction at RIP is plain Python's to run
    MMIO = 5  # the instruction at RIP accesses what is not RAM; plain Python runs it
    CODE_WRITE = 6  # the instruction at RIP writes into decoded code at exit_address
    EVENT = 7  # interrupts became possible and one is pending
    SECOND_LEVEL = 8  # EPT or nested paging refuses: second_level_*


class Vector(IntEnum):
    """Exception vectors. SDM Vol. 3, Exception and Interrupt Reference."""

    DE = 0
    DB = 1
    NMI = 2
    BP = 3
    OF = 4
    BR = 5
    UD = 6
    NM = 7
    DF = 8
    TS = 10
    NP = 11
    SS = 12
    GP = 13
    PF = 14
    MF = 16
    AC = 17
    MC = 18
    XM = 19
    VE = 20
    CP = 21


NO_ERROR_CODE = 1 << 32

TLB_ENTRY = Layout(
    "TlbEntry",
    (
        Field("read_tag"),  # linear page address when reads may go straight, else odd
        Field("write_tag"),
        Field("addend"),  # host address = linear address + addend
        Field("frame"),  # physical page address
    ),
)
FETCH_ENTRY = Layout("FetchEntry", (Field("tag"), Field("frame")))
JUMP_ENTRY = Layout(
    "JumpEntry",
    (
        Field("key"),  # RIP ^ mode_tag
        Field("uop"),
        Field("page_base"),
        Field("spare"),
    ),
)
BLOCK_ENTRY = Layout("BlockEntry", (Field("key"), Field("uop")))

MODE_TAG_SHIFT = 57

DTLB_SIZE = DTLB_ENTRIES * TLB_ENTRY.size
ITLB_SIZE = ITLB_ENTRIES * FETCH_ENTRY.size

FIELDS = (
    # general-purpose registers; [16] is constantly zero, [17] is RIP of the current code page,
    # [18] the linear address that the micro-operation before computed
    Field("gpr", "u64", 19),
    Field("gpr8", "u8", 152, alias="gpr"),
    *(Field(name, alias=f"gpr+{8 * i}") for i, name in enumerate(GPR_NAMES)),
    Field("page_base", alias="gpr+136"),
    Field("linear_address", alias="gpr+144"),
    Field("rip"),
    # what a handler keeps in machine registers; stored here while outside the compiled loop
    Field("budget"),
    Field("flag_result"),
    Field("flag_carries"),
    Field("ea"),
    # RFLAGS without the status flags, which flags.py derives from flag_result and flag_carries
    Field("rflags"),
    # hot: the current mode as cached by Cpu.refresh()
    Field("mode_tag"),  # mode slot << MODE_TAG_SHIFT, so that RIP ^ mode_tag tells modes apart
    Field("mode_slot"),
    Field("mode_slots", "u64", 2),  # in 64-bit mode: those of CPL 0 and of CPL 3
    Field("guest_mode"),  # events may be intercepted or observed: plain Python delivers them
    Field("faults_taken"),  # that compiled code delivered in this slice, each for a tick
    Field("ip_mask"),
    Field("stack_mask"),
    Field("linear_mask"),
    Field("cpl"),
    Field("dtlb"),  # address of the data TLB in force
    Field("itlb"),
    Field("dtlb_kinds", "u64", 4),  # addresses for SUPERVISOR, SUPERVISOR_AC, USER, STRICT
    Field("jump_cache"),
    Field("blocks"),
    Field("physmap"),  # one word a guest page: host address | flags
    Field("physmap_pages"),
    Field("code_lines"),  # one word a guest page: which 64-byte lines hold decoded code
    # exit
    Field("exit_code"),
    Field("exit_vector"),
    Field("exit_error"),
    Field("exit_address"),
    Field("exit_data"),
    Field("device_reader"),  # what compiled code calls to reach a device; 0: it leaves
    Field("device_writer"),
    Field("code_write_allowed"),
    Field("code_written"),  # while that is allowed: frame + 1 of the decoded code written over
    Field("event_pending"),
    Field("shadow_budget"),  # the budget at which the STI or MOV SS shadow ends
    Field("shadow_kind"),
    Field("nmi_blocked"),
    # segments: ES CS SS DS FS GS LDTR TR
    Field("selector", "u16", 8),
    Field("segment_base", "u64", 8),
    Field("segment_limit", "u32", 8),
    Field("segment_rights", "u32", 8),  # as in the VMCS: type, S, DPL, P, AVL, L, D, G, unusable
    Field("linear_base", "u64", 8),  # the base as applied: zero where 64-bit mode ignores it
    Field("segment_low", "u64", 8),  # lowest valid offset
    Field("read_end", "u64", 8),  # end of the readable offsets; 0 when there are none
    Field("write_end", "u64", 8),
    Field("gdtr_base"),
    Field("gdtr_limit"),
    Field("idtr_base"),
    Field("idtr_limit"),
    # control
    Field("cr0"),
    Field("cr2"),
    Field("cr3"),
    Field("cr4"),
    Field("cr8"),
    Field("efer"),
    Field("xcr0"),
    Field("pdpte", "u64", 4),
    Field("dr", "u64", 8),
    Field("pkru"),
    Field("pkrs"),
    Field("physical_mask"),  # the address bits a page-table entry may use, by MAXPHYADDR
    Field("second_level"),  # zero: guest-physical is physical; else the EPT/NPT in force
    Field("second_level_kind"),  # what it refused: see second_level.py
    Field("second_level_gpa"),
    Field("second_level_linear"),
    Field("second_level_access"),
    Field("second_level_rights"),
    Field("second_level_entries", "u64", 10),
    Field("vmcs_words"),  # host address of the current VMCS; 0: VMREAD is not compiled code's
    Field("vmcs_table"),  # host address of what tells encodings of fields: control_structure.py
    Field("trapped_frame"),  # physical page number that never enters the TLB: its accesses leave
    Field("star"),
    Field("lstar"),
    Field("cstar"),
    Field("sfmask"),
    Field("kernel_gs_base"),
    Field("sysenter_cs"),
    Field("sysenter_esp"),
    Field("sysenter_eip"),
    Field("tsc_aux"),
    Field("tsc_offset"),
    Field("retired"),  # instructions retired before the current slice
    Field("slice"),  # the budget the current slice began with
    # x87, SSE, AVX
    # 32 registers of eight words, XMM and YMM are the low words; two more hold operands
    Field("zmm", "u64", 272),
    Field("mxcsr"),
    Field("st_mantissa", "u64", 8),  # physical registers R0..R7
    Field("st_exponent", "u16", 8),  # sign in bit 15
    Field("fcw"),
    Field("fsw"),
    Field("ftw"),  # one bit a physical register: 1 is valid, as FXSAVE keeps it
    Field("fop"),
    Field("fip"),
    Field("fdp"),
    Field("fcs"),
    Field("fds"),
    # a page walk's entries: host addresses, frame numbers, guest-physical addresses
    Field("scratch", "u64", 24),
    Field("bounce", "u64", 8),  # operand of a read-modify-write that crosses pages
    Field("breakpoints_hit"),
    # translation caches: [context][kind of access]
    Field("dtlb_area", "u64", TLB_CONTEXTS * 4 * DTLB_SIZE // 8),
    Field("itlb_area", "u64", TLB_CONTEXTS * 2 * ITLB_SIZE // 8),
    Field("jump_area", "u64", JUMP_ENTRIES * JUMP_ENTRY.size // 8),
)
CPU = Layout("Cpu", FIELDS, align=64)

UOP = Layout(
    "Uop",
    (
        Field("handler"),  # address of the compiled handler
        Field("imm"),
        Field("disp"),
        Field("link"),  # the decoded target of a direct branch in the same page; 0 when none
        Field("r0", "u8"),  # register operands in order: a number, or for 8-bit ones an offset
        Field("r1", "u8"),
        Field("r2", "u8"),
        Field("base", "u8"),
        Field("index", "u8"),
        Field("scale", "u8"),  # as a shift count
        Field("seg", "u8"),
        Field("length", "u8"),
        Field("offset", "u16"),  # of the instruction in its page
        Field("left", "u16"),  # instructions after this one in the block
        Field("number", "u32"),  # of the handler, for plain execution
    ),
)
