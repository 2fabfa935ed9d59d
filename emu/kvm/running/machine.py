"""A board whose processors are vCPUs of a simulated KVM.

The board is user space and the in-kernel interrupt controllers at once: its RAM is the VM's memory,
its ports answer KVM_EXIT_IO, its local APICs are the vCPUs'. What is mapped at a device's address
answers without an exit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from emu.cpu.cpu import Cpu
from emu.cpu.errors import TripleFault
from emu.cpu.guest_mode import GuestMode
from emu.kvm.host import AMD
from emu.kvm.running.registers import load_rest, save_rest
from emu.kvm.running.user_exit import RunError, UserExit
from emu.kvm.structs import DescriptorTable, Regs, Segment, Sregs
from emu.kvm.x86_msrs import MSR_IA32_TSC
from emu.machine.core import Core, Cores
from emu.memory.guest_memory import GuestMemory, MemorySlot

if TYPE_CHECKING:
    from emu.cpu.code import CodeCache
    from emu.cpu.models import Model
    from emu.kvm.running.run import Run
    from emu.kvm.system import Kvm
    from emu.kvm.vcpu import Vcpu
    from emu.kvm.vm import Vm
    from emu.machine.board import Board
    from emu.machine.processor import EntryState
    from emu.machine.processor import Segment as EntrySegment
    from emu.memory import PhysicalMemory

HOSTS: Final[Mapping[str, str]] = {"skylake-x": "skylake-x", "zen3": "epyc-milan"}
"""Processor models on which KVM can run: the models of `emu.kvm.cpu_models` that they are."""

TSS_ADDRESS: Final = 0xFFFB_D000
TIMER_SHIFT: Final = 5  # arch/x86/kvm/vmx/vmx.h: VMX_MISC_EMULATED_PREEMPTION_TIMER_RATE
SEGMENT_NAMES: Final[Mapping[str, str]] = {"ldtr": "ldt"}
APIC_BASE: Final = 0x1B
WORD: Final = 0xFFFF_FFFF_FFFF_FFFF


class SharedMemory(GuestMemory):
    """The RAM of a board as the memory slots of a VM: what KVM writes, the processors see."""

    def __init__(self, physical: PhysicalMemory) -> None:
        super().__init__()
        self.physical = physical
        for number, (gpa, data) in enumerate(physical.ram()):
            slot = MemorySlot(number, gpa, data.size)
            slot.use(data)
            self.add(slot)

    def write(self, gpa: int, data: bytes | bytearray | memoryview) -> bool:
        """Write `data` at `gpa`; False where no slot backs all of it."""
        if self.find(gpa, len(data)) is None:
            return False
        self.physical.write(gpa, bytes(data))
        return True


class Outside(GuestMode):
    """The vCPU is not in the guest: it waits for an event, or user space has it."""

    def __init__(self, core: VirtualCore) -> None:
        super().__init__(core.cpu)
        self.core = core

    def pending(self) -> bool:
        """Whether KVM enters the guest when it is asked."""
        return self.core.can_enter()

    def boundary(self) -> bool:
        """Enter the guest if that can be."""
        if not self.core.can_enter():
            return False
        self.core.resume()
        return True

    def accepts_interrupt(self) -> bool:
        """Interrupts are KVM's to look at."""
        return False


class VirtualCore(Core):
    """A processor that runs a vCPU. `run_of` makes KVM's side of it."""

    def __init__(
        self,
        board: Board,
        index: int,
        model: Model,
        code: CodeCache,
        run_of: Callable[[VirtualCore], Run],
        processor: type[Cpu] = Cpu,
    ) -> None:
        super().__init__(board, index, model, code, processor)
        self.interrupt_waits = False
        self.paused = False
        self.stop_at_exit: int | None = None
        self.timer = board.clock.timer(self._timer_expired)
        self.outside = Outside(self)
        self.l0 = run_of(self)

    @property
    def vcpu(self) -> Vcpu:
        """The vCPU."""
        return self.l0.vcpu

    # Between the processor and KVM ---------------------------------------------------------------
    def leave(self) -> None:
        """The guest is not entered: KVM waits, or gives the vCPU to user space."""
        cpu = self.cpu
        cpu.guest = self.outside
        cpu.halted = True
        cpu.update_pending()
        why = self.l0.ended
        if why is UserExit.SHUTDOWN:
            raise TripleFault
        if why is not None:
            raise RunError(why, self.l0.describe())

    def can_enter(self) -> bool:
        """Whether KVM has a reason to enter the guest."""
        return not self.paused and self.l0.ended is None and self.l0.can_enter()

    def resume(self) -> None:
        """Enter the guest."""
        self.cpu.halted = False
        self.cpu.guest = None
        self.l0.resume()

    def kick(self, now: bool = True) -> None:
        """Make the guest exit at the next instruction boundary; or take that back."""
        self.cpu.interrupt_pending = now
        self.cpu.update_pending()

    def charge(self, ticks: int) -> None:
        """Time that KVM takes passes for the guest."""
        self.board.clock.charge(ticks)

    def publish_time(self) -> None:
        """L1's time-stamp counter of now: devices that an exit went to took time too."""
        self.vcpu.msrs[MSR_IA32_TSC] = self.board.clock.now + self.l0.tsc_offset & WORD

    def write_tsc(self, value: int) -> None:
        """WRMSR of the time-stamp counter."""
        self.l0.tsc_offset = value - self.board.clock.now & WORD

    def _timer_expired(self) -> None:
        self.publish_time()
        self.kick()

    def arm_timer(self, deadline: int | None) -> None:
        """Kick the guest when L1's VMX-preemption timer reaches `deadline`; None: there is none."""
        if deadline is None:
            self.timer.cancel()
        else:
            self.timer.arm((deadline << TIMER_SHIFT) - self.l0.tsc_offset & WORD)

    # Between user space and the vCPU -------------------------------------------------------------
    def pause(self) -> None:
        """KVM_RUN comes back with nothing entered: user space may get and set all there is."""
        self.paused = True
        self.publish_time()
        save_rest(self.vcpu, self.cpu)
        self.board.pause()

    def attach(self, l0: Run) -> None:
        """Go on with another vCPU, whose state user space has set."""
        self.l0, self.paused = l0, False
        load_rest(l0.vcpu, self.cpu)
        l0.tsc_offset = l0.vcpu.msrs.get(MSR_IA32_TSC, 0) - self.board.clock.now & WORD
        self.cpu.halted = False
        self.cpu.guest = self.outside
        self.cpu.update_pending()

    def enter(self, state: EntryState) -> None:
        """Begin in `state`: KVM_SET_SREGS and KVM_SET_REGS, as a VMM boots a guest."""
        self.reset()
        vcpu = self.vcpu
        segments = {
            SEGMENT_NAMES.get(name, name): _segment(value) for name, value in state.segments.items()
        }
        tables = {"gdt": DescriptorTable(*state.gdtr), "idt": DescriptorTable(*state.idtr)}
        controls = {"cr0": state.cr0, "cr3": state.cr3, "cr4": state.cr4, "efer": state.efer}
        now = vcpu.get_sregs()
        vcpu.set_sregs(Sregs(**{**now.__dict__, **segments, **tables, **controls}))
        registers: dict[str, Any] = {**state.gpr, "rip": state.rip, "rflags": state.rflags}
        vcpu.set_regs(Regs(**registers))
        self.l0.prepare()
        self.attach(self.l0)

    # What the board asks of a processor ----------------------------------------------------------
    def interruptible(self) -> bool:
        """Whether an interrupt of the local APIC would end its wait."""
        return not self._shut_down and not self.paused and self.l0.may_wake()

    def interrupt_request(self, asserted: bool) -> None:
        """The level of the local APIC's request: KVM kicks the vCPU out of the guest to see it."""
        self.interrupt_waits = asserted
        if asserted:
            self.cpu.interrupt_pending = True
        self.cpu.update_pending()

    def nmi(self) -> None:
        """An NMI arrived."""
        self.vcpu.events = self.vcpu.events.replaced(nmi_pending=1)
        self.kick()

    def init(self) -> None:
        """An INIT arrived."""
        self.vcpu.pending_init = True
        self.kick()


class KvmCores(Cores):
    """Makes the processors of one board: vCPUs of one VM of `kvm`."""

    def __init__(self, kvm: Kvm, model: Model, processor: type[Cpu] = Cpu) -> None:
        super().__init__(model, processor)
        self.kvm = kvm
        self.vm: Vm | None = None

    def __call__(self, board: Board, index: int) -> VirtualCore:
        """The processor `index` of `board`."""
        if self.vm is None:
            self.vm = make_vm(self.kvm, board)
        code = self.code_of(board)
        vcpu = make_vcpu(self.vm, index)

        def run_of(core: VirtualCore) -> Run:
            return make_run(vcpu, core)

        return VirtualCore(board, index, self.model, code, run_of, self.processor)


def make_vm(kvm: Kvm, board: Board) -> Vm:
    """A VM whose memory is the board's RAM, with interrupt controllers in the kernel."""
    vm = kvm.create_vm()
    vm.memory = SharedMemory(board.memory)
    vm.set_tss_addr(TSS_ADDRESS)
    vm.create_irqchip()
    return vm


def make_vcpu(vm: Vm, index: int) -> Vcpu:
    """A vCPU with the supported CPUID."""
    vcpu = vm.create_vcpu(index)
    vcpu.set_cpuid2(vm.kvm.get_supported_cpuid())
    return vcpu


def make_run(vcpu: Vcpu, core: VirtualCore) -> Run:
    """KVM_RUN of `vcpu` on `core`, by the vendor of the host."""
    if vcpu.host.vendor == AMD:
        from emu.kvm.running.svm_hardware import SvmHardware  # noqa: PLC0415 - of one vendor only
        from emu.kvm.running.svm_run import SvmRun  # noqa: PLC0415

        return SvmRun(vcpu, core, SvmHardware.of(core))
    from emu.kvm.running.vmx_hardware import VmxHardware  # noqa: PLC0415
    from emu.kvm.running.vmx_run import VmxRun  # noqa: PLC0415

    return VmxRun(vcpu, core, VmxHardware.of(core))


def _segment(given: EntrySegment) -> Segment:
    rights = given.rights
    return Segment(
        base=given.base,
        limit=given.limit,
        selector=given.selector,
        type=rights & 0xF,
        s=rights >> 4 & 1,
        dpl=rights >> 5 & 3,
        present=rights >> 7 & 1,
        avl=rights >> 12 & 1,
        l=rights >> 13 & 1,
        db=rights >> 14 & 1,
        g=rights >> 15 & 1,
        unusable=rights >> 16 & 1,
    )
