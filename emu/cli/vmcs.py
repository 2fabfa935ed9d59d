"""`nestling vmcs`: the control structure of a running guest at a moment that is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from emu.cli.breakpoints import moment, run_to
from emu.cli.machine import Machine, assemble, machine_options
from emu.cli.output import json_option, print_json, table
from emu.cli.show import print_section, section_as_json
from emu.errors import EmuError

if TYPE_CHECKING:
    from emu.cpu.guest_mode import Extension
    from emu.kvm.running.structures import Field, Structures
    from emu.machine.board import Board, Outcome
    from emu.migration.decode import Section
    from emu.svm.extension import Svm
    from emu.vmx.extension import Vmx

FIRST_EXIT: Final = "exit:1"


class Shown(NamedTuple):
    """The control structure that one processor uses."""

    processor: int
    title: str
    address: int
    in_guest: bool
    place: str  # how the places of members are written
    sections: list[Section]


@click.command()
@machine_options
@click.option("--at", default=FIRST_EXIT, metavar="MOMENT", help="exit:N, rip:ADDR, instruction:N.")
@click.option("--all", "everything", is_flag=True, help="Fields that are zero as well.")
@json_option
def vmcs(at: str, everything: bool, as_json: bool, **machine: Any) -> None:
    """Run IMAGE to a moment and print the VMCS or VMCB in use, field by field.

    MOMENT is exit:N, when guest mode is left for the Nth time (exit:1 unless told otherwise), or
    rip:ADDR, or instruction:N.  While the guest runs, its state is as it was at the last entry.
    What the guest writes to its serial port goes to stderr.

    With --kernel, vmcs01, vmcs12 and vmcs02 (vmcb01, vmcb12 and vmcb02) stand side by side, and
    where each value of the last comes from when L2 is entered; exits are then those to KVM.
    """
    from emu.cpu.observed import ObservedCpu  # noqa: PLC0415

    described, where = Machine(**machine), moment(at)
    board = assemble(described, lambda data: click.echo(data, err=True, nl=False), ObservedCpu)
    if described.kernel is not None and where.kind == "exit":
        outcome = run_to_exit_of_l0(board, where.value)
    else:
        outcome = run_to(board, where)
    if outcome.reason.name != "PAUSED":
        raise EmuError(
            f"{described.image}: {where} does not come: {outcome.reason.value} "
            f"after {outcome.instructions} instructions"
        )
    if described.kernel is not None:
        show_kvm(board, everything, as_json)
        return
    shown = in_use(board, everything)
    if not shown:
        raise EmuError(f"{described.image}: no processor has a VMCS or VMCB at {where}")
    if as_json:
        print_json([_as_json(structure) for structure in shown])
        return
    for structure in shown:
        mode = "guest mode" if structure.in_guest else "host mode"
        where_it_is = f"{structure.title} at {structure.address:#x}"
        click.echo(f"processor {structure.processor}: {where_it_is}; {mode}\n")
        for section in structure.sections:
            print_section(section, structure.place)


def run_to_exit_of_l0(board: Board, number: int) -> Outcome:
    """Run a board of vCPUs until one of them has come back from so many exits to KVM."""
    for core in board.processors:
        core.stop_at_exit = number  # type: ignore[attr-defined]
    return board.run()


def show_kvm(board: Board, everything: bool, as_json: bool) -> None:
    """Print the control structures of each vCPU."""
    from emu.kvm.running.structures import structures  # noqa: PLC0415

    found = [structures(core.vcpu) for core in board.processors]  # type: ignore[attr-defined]
    if as_json:
        print_json(
            [
                {"in_l2": kept.in_l2, "fields": [field_as_json(kept, f) for f in kept.fields]}
                for kept in found
            ]
        )
        return
    for number, kept in enumerate(found):
        rows = [f for f in kept.fields if everything or f.of_l1 or f.by_l1 or f.of_l2]
        table(
            ("field", *kept.names, "at entry from"),
            [(f.name, *(f"{v:#x}" for v in f[1:4]), f.origin) for f in rows],
            f"vCPU {number}: {'L2' if kept.in_l2 else 'L1'} goes on",
        )


def field_as_json(kept: Structures, field: Field) -> dict[str, Any]:
    """A field of the three structures for machines."""
    values = dict(zip(kept.names, field[1:4], strict=True))
    return {"name": field.name, **values, "origin": field.origin}


def in_use(board: Board, everything: bool) -> list[Shown]:
    """The control structure of each processor that has one."""
    found = []
    for core in board.processors:
        cpu = core.cpu  # type: ignore[attr-defined]
        if cpu.extension is not None:
            shown = structure_of(cpu.extension, core.index, everything)
            found += [shown] if shown else []
    return found


def structure_of(extension: Extension, processor: int, everything: bool) -> Shown | None:
    """The current VMCS, or the VMCB of the last VMRUN; None when there is none yet."""
    from emu.svm.extension import Svm  # noqa: PLC0415 - a processor has one or the other
    from emu.vmx.extension import Vmx  # noqa: PLC0415

    in_guest = extension.cpu.guest is not None
    if isinstance(extension, Svm):
        address = extension.block.address
        if address is None:
            return None
        sections = vmcb_sections(extension, everything)
        return Shown(processor, "VMCB", address, in_guest, "#05x", sections)
    if isinstance(extension, Vmx) and extension.has_current:
        sections = vmcs_sections(extension, everything)
        return Shown(processor, "VMCS", extension.current, in_guest, "#06x", sections)
    return None


def vmcb_sections(svm: Svm, everything: bool) -> list[Section]:
    """The VMCB: the control area and the state-save area."""
    from emu.migration.decode import page_section  # noqa: PLC0415
    from emu.migration.svm_words import WORDS  # noqa: PLC0415

    return [page_section("VMCB", bytes(svm.block.data), WORDS, {}, everything)]


def vmcs_sections(vmx: Vmx, everything: bool) -> list[Section]:
    """The fields of the current VMCS by type, those that the processor has."""
    from emu.migration.decode import Member, Section, says  # noqa: PLC0415
    from vmcs.schema import FieldType  # noqa: PLC0415
    from vmcs.vmx.field_formats import FORMATS  # noqa: PLC0415
    from vmcs.vmx.fields import FIELDS  # noqa: PLC0415

    def meaning(name: str) -> tuple[str, ...]:
        if name == "EXIT_QUALIFICATION":
            return vmx.exit_report().details
        return says(FORMATS[name], vmx[name]) if name in FORMATS else ()

    found = []
    for kind in FieldType:
        fields = [f for f in FIELDS if f.type is kind and f.name in vmx.supported]
        members = tuple(
            Member(f.name, f.encoding, f.size, vmx[f.name], meaning(f.name))
            for f in fields
            if everything or vmx[f.name]
        )
        title = kind.name.replace("_", " ").lower()
        found.append(Section(title, members, len(fields) - len(members)))
    return found


def _as_json(structure: Shown) -> dict[str, Any]:
    return {
        "processor": structure.processor,
        "structure": structure.title,
        "address": structure.address,
        "in_guest": structure.in_guest,
        "sections": [section_as_json(section) for section in structure.sections],
    }
