"""One logical processor: its state, and the loop around the compiled code."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from emu.cpu import access, branch_records, debug, program
from emu.cpu.code import CodeCache, Derived, Mode
from emu.cpu.derive import MODE_BITS, MODE_USER, MODE_VECTORS, MODE_VM86
from emu.cpu.environment import Environment
from emu.cpu.errors import Fault, GuestExit, TripleFault
from emu.cpu.flags import RESERVED_ONE, RF, TF, set_status_flags, status_word
from emu.cpu.linear import LinearMemory
from emu.cpu.models import MODELS, Model
from emu.cpu.paging import (
    CR0_CD,
    CR0_NW,
    EFER_LMA,
    NO_PAGE,
)
from emu.cpu.pending import PendingEvents
from emu.cpu.plain import run_records
from emu.cpu.smm import Smm
from emu.cpu.state import (
    CPU,
    CS,
    MODE_TAG_SHIFT,
    MOV_SS,
    NO_ERROR_CODE,
    TLB_CONTEXTS,
    UOP,
    WORD,
    Exit,
    Vector,
)
from emu.memory import PhysicalMemory

if TYPE_CHECKING:
    from emu.cpu.guest_mode import Event, Extension, GuestMode

PAGE_SIZE, MAX_INSTRUCTION = 4096, 15
KEPT_BY_INIT = (
    "star", "lstar", "cstar", "sfmask", "kernel_gs_base", "tsc_aux", "tsc_offset",
    "sysenter_cs", "sysenter_esp", "sysenter_eip",
)  # fmt: skip
VECTORS_AND_X87 = (
    "zmm", "mxcsr", "st_mantissa", "st_exponent", "fcw", "fsw", "ftw", "fop", "fip", "fdp",
    "fcs", "fds",
)  # fmt: skip
ODD = np.uint64(1)
NOTHING: frozenset[str] = frozenset()
# guest mode decides about these: plain Python asks it
ASKED = frozenset(("IRETQ", "INT", "INVLPG"))


class Stop(Enum):
    """Why `Cpu.run` came back."""

    BUDGET = "the instructions granted are used up"
    YIELD = "PAUSE: another processor may have something better to do"
    HALT = "the processor waits for an interrupt"
    SHUTDOWN = "triple fault"


class Cpu(LinearMemory, PendingEvents):
    """A logical processor over `memory`; processors of one machine share `code`."""

    asked = NOTHING
    """Outside guest mode: instructions that plain Python runs although there are handlers."""

    def __init__(
        self,
        memory: PhysicalMemory,
        code: CodeCache | None = None,
        model: Model | None = None,
        environment: Environment | None = None,
    ) -> None:
        store = np.zeros(CPU.size + 64, np.uint8)
        start = -store.ctypes.data % 64
        self.store = store
        self.block: NDArray[np.uint8] = store[start : start + CPU.size]
        self.record = self.block.view(CPU.dtype)
        self.state: Any = CPU(self.block.ctypes.data)
        self.memory = memory
        self.code = code if code is not None else CodeCache(memory)
        self.code.cpus.append(self)
        self.program = program.program()
        self.modes = (Mode(16, False, False, 0xFFFF, 0, 0),) * 2
        self.mode_lost = False
        self.space = 0
        self.tlb_context = 0
        self.next_rip = 0
        self.halted = False
        self.model = model if model is not None else MODELS["skylake-x"]
        self.environment = environment if environment is not None else Environment()
        self.msrs: dict[int, int] = {}
        self.sequence = 0  # of the deterministic random numbers
        self.held = 0  # of the budget, while a single step runs
        self.stopping = False
        self.yielding = False
        self.paused_at = -1  # RIP of the last PAUSE
        self.idle = 0  # ticks that passed without an instruction
        self.code_base = 0  # of CS, for which the jump cache is
        self.excepted = False  # an exception was delivered, which takes a tick
        self.debug_causes = 0  # of #DB, held back by MOV SS
        self.untraced = False  # the instruction ended in a handler: no single-step trap
        self.inhibits = 0  # STI or MOV_SS: the system instruction inhibits events for one more
        self.length = 0  # of the instruction that is stepped over
        self.records_branches = False  # DEBUGCTL.LBR, see `branch_records`
        self.shadowed = False  # the instruction that is stepped over is in such a shadow
        self.monitored: int | None = None
        self.nmi_pending = False
        self.interrupt_pending = False
        self.waits_for_sipi = False
        self.init_pending = False
        self.sipi_pending: int | None = None  # in guest mode: its vector
        self.extension: Extension | None = None
        self.guest: GuestMode | None = None
        self.delivering: Event | None = None
        self.bus: Any = memory  # what answers for memory, as plain Python accesses it
        self.smm = Smm()
        self.acknowledge: Callable[[], int] | None = None
        access.BUSES[self.state.address] = memory
        state = self.state
        address, places = state.address, CPU.places
        state.blocks = self.code.table.ctypes.data
        state.jump_cache = address + places["jump_area"].offset
        state.physmap = memory.map_address
        state.physmap_pages = memory.pages
        state.code_lines = memory.lines_address
        state.physical_mask = (1 << self.model.maxphyaddr) - 1
        call = self.program.call
        self._walk, self._second_level = call("walk", 3), call("walk_second_level", 4)
        self._fetch_frame, self._derive = call("fetch_frame", 2), call("derive", 2)
        self._forget, self._forget_jumps = call("forget_translations", 2), call("forget_jumps", 1)
        self._deliver = call("deliver", 6)
        self.load_registers, self.save_registers = (
            call(name, 4) for name in ("load_registers", "save_registers")
        )
        state.trapped_frame = WORD
        self.reset()

    # state

    def reset(self) -> None:
        """The state after RESET. SDM Vol. 3, Processor State After Reset."""
        state = self.state
        for name in ("gpr", "dr", *VECTORS_AND_X87):
            self.record[name] = 0
        for name in ("cr2", "cr3", "cr4", "cr8", "efer", "pkru", "pkrs"):
            setattr(state, name, 0)
        state.cr0 = 0x60000010
        # an OUT may ask for the reset: it must not go on after it
        state.rip = self.next_rip = 0xFFF0
        self.rflags = RESERVED_ONE
        state.rdx = self.model.signature
        state.xcr0 = 1
        state.mxcsr = 0x1F80
        state.fcw = 0x40
        state.ftw = 0xFF  # every register holds +0.0
        state.dr[6], state.dr[7] = 0xFFFF0FF0, 0x400
        for seg in range(8):
            state.selector[seg] = 0
            state.segment_base[seg] = 0
            state.segment_limit[seg] = 0xFFFF
            state.segment_rights[seg] = 0x82 if seg == 6 else 0x8B if seg == 7 else 0x93
        state.selector[CS] = 0xF000
        state.segment_base[CS] = 0xFFFF0000
        state.segment_rights[CS] = 0x9B
        state.gdtr_base = state.idtr_base = 0
        state.gdtr_limit = state.idtr_limit = 0xFFFF
        state.cpl = 0
        state.shadow_budget = WORD
        for name in KEPT_BY_INIT:
            setattr(state, name, 0)
        self.msrs = dict(self.model.msrs)
        self.length = 0  # of the instruction that is stepped over
        self.records_branches = False
        self.halted = self.nmi_pending = self.nmi_blocked = False
        self.waits_for_sipi = self.init_pending = False
        self.sipi_pending = None
        self.smm = Smm()
        self.monitored = None
        if self.extension is not None:
            self.extension.reset()
        self.update_pending()
        self.flush_tlb()
        self.flush_jumps()
        self.refresh()

    def init_reset(self) -> None:
        """The state after INIT, which keeps caches' mode, x87, SSE, the TSC and MSRs.

        SDM Vol. 3, Processor State After Reset.
        """
        state = self.state
        extension, self.extension = self.extension, None
        if extension is not None:
            extension.init_reset()
        kept = {name: getattr(state, name) for name in ("xcr0", *KEPT_BY_INIT)}
        registers = {name: self.record[name].copy() for name in VECTORS_AND_X87}
        msrs, cache_mode = self.msrs, state.cr0 & (CR0_CD | CR0_NW)
        smm = self.smm
        self.reset()
        self.extension, self.smm = extension, smm
        for name, value in kept.items():
            setattr(state, name, value)
        for name, value in registers.items():
            self.record[name] = value
        self.msrs = msrs
        branch_records.follow(self)
        state.cr0 = state.cr0 & ~(CR0_CD | CR0_NW) | cache_mode
        self.refresh()

    def start_up(self, vector: int) -> None:
        """A start-up IPI: begin at `vector` << 12 if waiting for one. SDM Vol. 3, MP Init."""
        if not self.waits_for_sipi:
            return
        if self.guest is not None:
            self.sipi_pending = vector
            self.update_pending()
            return
        state = self.state
        self.waits_for_sipi = False
        state.selector[CS], state.segment_base[CS] = vector << 8, vector << 12
        state.rip = 0
        self.refresh()

    @property
    def rflags(self) -> int:
        """RFLAGS with the status flags computed."""
        state = self.state
        status = status_word(state.flag_result, state.flag_carries)
        return int(state.rflags | status | RESERVED_ONE)

    @rflags.setter
    def rflags(self, value: int) -> None:
        set_status_flags(self.state, value)
        self.state.rflags = value & ~0x8D5

    @property
    def nmi_blocked(self) -> bool:
        """Whether NMIs wait for an IRET."""
        return bool(self.state.nmi_blocked)

    @nmi_blocked.setter
    def nmi_blocked(self, blocked: bool) -> None:
        self.state.nmi_blocked = int(blocked)

    @property
    def long_mode(self) -> bool:
        """Whether the processor is in IA-32e mode: 64-bit or compatibility."""
        return bool(self.state.efer & EFER_LMA)

    def refresh(self) -> None:
        """Derive what compiled code reads from the control registers, segments and RFLAGS."""
        state = self.state
        word = self._derive(state.address, self.tlb_context)
        limit = 0 if word & 64 else state.segment_limit[CS]
        trapped = self.asked if self.guest is None else self.guest.trapped | ASKED
        known = self.code.derived.get((word, limit, self.space, trapped))
        if known is None:
            known = self.make_modes(word, limit, trapped)
        self.modes, slots, slot = known
        state.mode_slots[0], state.mode_slots[1] = slots
        state.mode_slot = slot
        state.mode_tag = slot << MODE_TAG_SHIFT & WORD
        state.guest_mode = int(self.guest is not None or bool(self.asked))
        self.mode_lost = False
        if self.code_base != state.linear_base[CS]:
            # the jump cache goes by RIP
            self.code_base = int(state.linear_base[CS])
            self.flush_jumps()

    def make_modes(self, word: int, limit: int, trapped: frozenset[str]) -> Derived:
        """The modes at CPL 0 and 3 and their slots, kept with the code that they tell apart."""
        mode = Mode(
            word & MODE_BITS,
            bool(word & MODE_USER),
            bool(word & MODE_VM86),
            limit,
            word >> MODE_VECTORS,
            self.space,
            trapped,
        )
        modes = mode, mode
        if mode.bits == 64:
            modes = mode._replace(user=False), mode._replace(user=True)
        slots = self.code.mode_slot(modes[0]), self.code.mode_slot(modes[1])
        known = modes, slots, self.code.mode_slot(mode)
        self.code.derived[word, limit, self.space, trapped] = known
        return known

    @property
    def mode(self) -> Mode:
        """What decoding depends on now; compiled code changes CPL in 64-bit mode."""
        return self.modes[self.state.cpl == 3]

    def flush_tlb(self, context: int | None = None) -> None:
        """Forget the translations of a context, or of all."""
        for each in range(TLB_CONTEXTS) if context is None else (context,):
            self._forget(self.state.address, each)
        self.flush_jumps()

    def flush_page(self, linear: int) -> None:
        """Forget the translation of one linear page in the current context."""
        index = linear >> 12
        tlb = self.record["dtlb_area"].reshape(4, 4, -1, 4)[self.tlb_context]
        tlb[:, (index + (index >> 8)) % tlb.shape[1], :2] = ODD
        fetch = self.record["itlb_area"].reshape(4, 2, -1, 2)[self.tlb_context]
        fetch[:, index % fetch.shape[1], 0] = ODD
        self.flush_jumps()

    def flush_jumps(self) -> None:
        """Forget which RIPs lead to which blocks."""
        self._forget_jumps(self.state.address)

    def forbid_writes(self, page: int) -> None:
        """Let writes to a guest-physical page take the slow path: it holds decoded code."""
        tlb = self.record["dtlb_area"].reshape(-1, 4)
        tlb[tlb[:, 3] == np.uint64(page * PAGE_SIZE), 1] = ODD

    # what the code cache asks

    def next_code_page(self) -> int:
        """The physical page that follows the one RIP is in, in linear addresses."""
        state = self.state
        linear = state.rip + state.linear_base[CS] & state.linear_mask
        following = (linear | 0xFFF) + 1 & state.linear_mask
        while (frame := self._fetch_frame(state.address, following)) == NO_PAGE:
            self.refused()
        return int(frame) // PAGE_SIZE

    def fetched(self) -> bytes:
        """The bytes at RIP that can be fetched: 15 at most, those of the instruction first."""
        state = self.state
        linear = state.rip + state.linear_base[CS] & state.linear_mask
        data = b""
        while len(data) < MAX_INSTRUCTION:
            frame = self._fetch_frame(state.address, linear)
            if frame == NO_PAGE:
                state.exit_code = 0
                break
            count = min(MAX_INSTRUCTION - len(data), PAGE_SIZE - linear % PAGE_SIZE)
            data += self.memory.read(int(frame) | linear % PAGE_SIZE, count)
            linear = linear + count & state.linear_mask
        return data

    def raise_limit(self) -> None:
        """The instruction at RIP runs over the CS limit."""
        raise Fault(Vector.GP, 0)

    # running

    def run(self, budget: int) -> Stop:
        """Retire up to `budget` instructions; stop early at HLT and shutdown."""
        state = self.state
        state.budget = budget
        state.slice = budget
        state.shadow_budget = budget if state.shadow_budget == 0 else WORD
        self.stopping = self.yielding = False
        try:
            while True:
                try:
                    return self.run_slice()
                except GuestExit:
                    self.leave_guest()
        except TripleFault:
            return Stop.SHUTDOWN
        finally:
            used = state.slice - state.budget
            self.held = 0
            state.retired += used
            self.idle += state.faults_taken
            state.faults_taken = 0
            # a shadow that is still on is on when the next slice begins
            state.shadow_budget = 0 if self.shadow_active() else WORD
            state.slice = 0

    def run_slice(self) -> Stop:
        """Run until there is a reason to stop."""
        state = self.state
        enter, address = self.program.enter, state.address
        while True:
            if self.mode_lost:
                self.refresh()
            if self.excepted:
                self.pass_exception()
            guest = self.guest
            if guest is not None and state.event_pending:
                guest.before_traps()
            if self.debug_causes and not (self.shadow_active() and state.shadow_kind == MOV_SS):
                causes, self.debug_causes = self.debug_causes, 0
                self.debug_trap(causes)
                continue
            if state.event_pending and self.take_event():
                continue
            if self.halted or self.waits_for_sipi:
                return Stop.HALT
            if state.budget == 0 or self.stopping:
                return Stop.BUDGET
            if self.yielding:
                return Stop.YIELD
            if state.rflags & (TF | RF) or state.dr[7] & 0xFF or self.shadow_active():
                self.step()
                continue
            if self.records_branches or (guest is not None and guest.single_steps):
                self.step()
                continue
            state.exit_code = 0
            enter(address)
            self.leave_loop()

    def leave_guest(self) -> None:
        """Leave guest mode: the instruction at hand, if any, has had no effect."""
        if self.held:
            self.state.budget, self.held = self.held, 0
        if self.shadowed:
            self.state.shadow_budget, self.shadowed = self.state.budget, False
        self.state.code_write_allowed = 0
        self.state.exit_code = 0
        assert self.guest is not None
        self.guest.leave()
        self.delivering = None

    def shadow_active(self) -> bool:
        """Whether the last instruction was the STI or MOV SS that inhibits interrupts."""
        return bool(self.state.shadow_budget == self.state.budget)

    def shadow_kind(self) -> int:
        """What inhibits events at this boundary or for the instruction that runs: STI, MOV_SS."""
        return int(self.state.shadow_kind) if self.shadowed or self.shadow_active() else 0

    def leave_loop(self) -> None:
        """Deal with what compiled code came back for."""
        state = self.state
        code = state.exit_code
        if code == Exit.DECODE:
            self.decode(state.exit_address)
        elif code == Exit.SYSTEM:
            self.system(self.code.instructions[state.exit_data])
        elif code == Exit.EXCEPTION:
            if state.budget == 0:
                return  # fetching what runs in the next slice, if nothing comes before it
            self.raised(Fault(state.exit_vector, state.exit_error, state.exit_address))
        elif code == Exit.BUDGET:
            if self.code.regions is not None:
                self.code.regions.sample(int(state.exit_data), self.used())
            if state.budget:
                self.finish()
        elif code in (Exit.MMIO, Exit.CODE_WRITE):
            self.step_apart(code)
        elif code == Exit.SECOND_LEVEL:
            state.exit_code = 0
            try:
                self.second_level_fault()
            except Fault as fault:
                self.raised(fault)

    def decode(self, gpa: int) -> None:
        """Provide the block at `gpa`; what cannot be kept is run here, an instruction at a time."""
        slot = self.state.mode_slot
        if self.state.budget == 0:
            return  # it runs in the next slice, if nothing comes before it
        if self.guest is not None and gpa // PAGE_SIZE == self.state.trapped_frame:
            self.guest.fetch_trapped(gpa)
        if self.code.lookup(gpa, slot):
            return
        try:
            self.code.decode(self, gpa, self.mode, slot)
        except Fault as fault:
            self.raised(fault)
            return
        if not self.memory.map[gpa // PAGE_SIZE]:
            self.step()

    def fetch_address(self) -> int:
        """The guest-physical address of the instruction at RIP, whose page becomes current."""
        state = self.state
        linear = state.rip + state.linear_base[CS] & state.linear_mask
        while (frame := self._fetch_frame(state.address, linear)) == NO_PAGE:
            self.refused()
        state.page_base = state.rip - (linear & 0xFFF) & WORD
        return int(frame) | linear & 0xFFF

    def single(self) -> int:
        """Decode the one instruction at RIP; the address of its first record."""
        return self.code.decode(self, self.fetch_address(), self.mode, self.state.mode_slot, 1)

    def finish(self) -> None:
        """Run as much of the block at RIP as the budget covers."""
        state = self.state
        try:
            gpa = self.fetch_address()
        except Fault as fault:
            self.raised(fault)
            return
        block = self.code.lookup(gpa, state.mode_slot)
        if not block:
            self.decode(gpa)
        elif UOP(block).left >= state.budget:
            at = self.code.prefix(block, int(state.budget))
            state.budget = state.exit_code = 0
            self.program.enter_at(state.address, at)
            self.leave_loop()

    def used(self) -> int:
        """The part of the slice that is used up before the current instruction."""
        state = self.state
        return int(state.slice - state.budget) - self.held

    def step(self, plain: bool = False) -> None:
        """Run one instruction, compiled or as plain Python; events that it causes are delivered."""
        self.shadowed = self.shadow_active()
        self.step_once(plain)
        self.shadowed = False

    def step_once(self, plain: bool) -> None:
        """Run one instruction."""
        state = self.state
        trap = state.rflags & TF
        granted = state.budget
        blocked = self.shadow_active() and state.shadow_kind == MOV_SS
        if state.dr[7] & 0xFF and not state.rflags & RF and not blocked:
            causes = debug.instruction_breakpoints(state)
            if causes:
                debug.fault(self, causes)
                return
        self.untraced = False
        state.shadow_budget = WORD
        state.rflags &= ~RF
        state.breakpoints_hit = 0
        try:
            at = self.single()
        except Fault as fault:
            self.raised(fault)
            return
        state.exit_code = 0
        self.length = UOP(at).length
        start, following = int(state.rip), state.rip + self.length & state.ip_mask
        state.budget = 0
        self.held = granted
        if plain:
            run_records(self, at)
        else:
            self.program.enter_at(state.address, at)
        left = state.budget
        self.held = 0
        state.budget = granted if left else granted - 1
        if state.shadow_budget != WORD:
            state.shadow_budget = state.budget
        code = state.exit_code
        if not left:
            # done; should fetching the next one have faulted, that is its own affair
            state.exit_code = 0
        elif code == Exit.SYSTEM:
            self.leave_loop()
            if state.budget == granted:
                return
        elif code in (Exit.DECODE, Exit.BUDGET, Exit.NONE):
            raise AssertionError("a single step gave its budget back without a reason")
        else:
            self.leave_loop()
            return
        self.shadowed = False
        if self.records_branches and not self.untraced and state.rip not in (start, following):
            branch_records.record(self, start)
        traced = trap and not self.untraced
        causes = self.debug_causes | state.breakpoints_hit | (debug.SINGLE_STEP if traced else 0)
        self.debug_causes = 0
        if causes:
            if self.shadow_active() and state.shadow_kind == MOV_SS:
                self.debug_causes = causes & 15
            else:
                self.trap_before_events(causes)

    def trap_before_events(self, causes: int) -> None:
        """Deliver #DB as a trap, unless guest mode is left with it pending."""
        if self.guest is not None:
            self.debug_causes = causes
            self.guest.before_traps()
            self.debug_causes = 0
        self.debug_trap(causes)

    def step_apart(self, code: int) -> None:
        """Run the instruction at RIP where compiled code may not: on a device, over code."""
        state = self.state
        if code == Exit.CODE_WRITE:
            self.code.drop_page(state.exit_address // PAGE_SIZE)
            # decoding the instruction may bring back what it writes over, here or in the next page
            state.code_write_allowed = 1
            state.code_written = 0
            page = state.exit_address // PAGE_SIZE
            self.step()
            state.code_write_allowed = 0
            self.code.drop_page(page)
            if state.code_written:
                self.code.drop_page(state.code_written - 1)
        elif state.trapped_frame != WORD or state.address in access.WATCHERS:
            self.step(plain=True)
        else:
            state.device_reader, state.device_writer = access.READER, access.WRITER
            try:
                self.step()
            finally:
                state.device_reader = state.device_writer = 0
            if access.ESCAPED:
                raise access.ESCAPED.pop()

    def system(self, insn: Any) -> None:
        """Run an instruction in plain Python."""
        from emu.cpu.system import run  # noqa: PLC0415 - it imports this module

        state = self.state
        self.next_rip = state.rip + insn.len & state.ip_mask
        self.inhibits = 0
        try:
            run(self, insn)
        except Fault as fault:
            self.raised(fault)
            return
        state.rip = self.next_rip
        state.budget -= 1
        if self.inhibits:
            state.shadow_budget = state.budget
            state.shadow_kind = self.inhibits

    def raised(self, fault: Fault) -> None:
        """Deliver an exception that the instruction at RIP raised."""
        from emu.cpu.system.events import deliver_exception  # noqa: PLC0415

        deliver_exception(self, fault)
        self.excepted = True

    def deliver_compiled(self, vector: int, error: int | None, soft: bool, flags: int) -> bool:
        """Deliver an event in 64-bit mode the usual way; False when `deliver_long` has to."""
        state = self.state
        pushed = NO_ERROR_CODE if error is None else error
        return bool(self._deliver(state.address, vector, pushed, soft, flags, state.rip))

    def debug_trap(self, causes: int) -> None:
        """Deliver #DB as a trap: `causes` goes to DR6."""
        self.raised(Fault(Vector.DB, NO_ERROR_CODE, causes))

    def pass_time(self, ticks: int) -> None:
        """Use up budget without retiring instructions; at most what is left of the slice."""
        state = self.state
        spent = min(ticks, max(int(state.budget) - 1, 0))
        state.budget -= spent
        self.idle += spent

    def pass_exception(self) -> None:
        """Use up a tick for an exception: handlers that only fault do not make time stand still."""
        self.excepted = False
        if self.state.budget:
            self.state.budget -= 1
            self.idle += 1
