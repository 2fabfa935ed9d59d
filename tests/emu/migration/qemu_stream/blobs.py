"""Kernel blobs as KVM_GET_NESTED_STATE hands them out, built from the uapi header's offsets."""

from struct import pack

NOWHERE = 0xFFFF_FFFF_FFFF_FFFF


def page(seed: int) -> bytes:
    """4096 bytes, different for each seed and different at every quadword."""
    return b"".join(pack("<Q", seed << 32 | word) for word in range(512))


def vmx_blob(
    pages: int = 0,
    *,
    flags: int = 0,
    vmxon_pa: int = 0x1000,
    vmcs12_pa: int = 0x2000,
    smm_flags: int = 0,
    size: int | None = None,
    rest: bytes = bytes(102),
) -> bytes:
    """A VMX blob with that many pages; `rest` is bytes 26 to 127 of the header."""
    used = 128 + 4096 * pages if size is None else size
    header = pack("<HHIQQH", flags, 0, used, vmxon_pa, vmcs12_pa, smm_flags) + rest
    return header + b"".join(page(number + 1) for number in range(pages))


def svm_blob(
    pages: int = 1, *, flags: int = 0x101, vmcb_pa: int = 0x3000, size: int | None = None
) -> bytes:
    """An SVM blob with one page (L2 runs) or none."""
    used = 128 + 4096 * pages if size is None else size
    return pack("<HHIQ", flags, 1, used, vmcb_pa) + bytes(112) + page(7) * pages
