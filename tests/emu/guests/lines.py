"""What each guest prints, whatever it runs on.

A scenario prints the same on both hypervisors but for its first line; those of SVM are recorded
from QEMU (`tests/data/guests`), and the two that VMX alone has are told here from their sources.
"""

from pathlib import Path

DATA = Path(__file__).parents[2] / "data" / "guests"
OF_SVM = {path.stem: path.read_text() for path in sorted(DATA.glob("svm-*.txt"))}
FIRST = {"svm": "L1: SVM is on\n", "vmx": "L1: VMX operation\n"}
TIMES = 5

PREEMPTION = "".join(
    f"L1: the preemption timer expired, time {n}\n"
    f"{'' if n < TIMES else 'L1: L2 may end' + chr(10)}"
    f"L2: I have been stopped, times {n:#x}\n"
    for n in range(1, TIMES + 1)
)
HALTS = (
    "L1: an interrupt, L2 is halted\nL2: awake, interrupts 0x2\nL1: L2 halts\n",
    "L1: an interrupt, L2 is halted\nL2: awake, interrupts 0x2\nL1: HLT is L2's own now\n",
)

LINES = {
    **OF_SVM,
    **{
        name.replace("svm", "vmx"): text.replace(FIRST["svm"], FIRST["vmx"])
        for name, text in OF_SVM.items()
    },
    "vmx-halt": OF_SVM["svm-halt"].replace(FIRST["svm"], FIRST["vmx"]).replace(*HALTS),
    "vmx-preemption": f"{FIRST['vmx']}{PREEMPTION}L1: L2 is done, with 0x5, as it should\n",
    "vmx-shadow": (
        "L1: VMX operation\n"
        "L1: L2 has a shadow VMCS\n"
        "L2: VMWRITE and VMREAD of GUEST_RIP without an exit: 0x123456789abc\n"
        "L1: L2's VMREAD of a field that I keep\n"
        "L1: in the shadow VMCS, GUEST_RIP is 0x123456789abc\n"
        "L1: L2 is done, with 0x123456789abc, as it should\n"
    ),
}
