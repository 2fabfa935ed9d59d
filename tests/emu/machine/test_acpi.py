import itertools
import struct

import pytest

from emu.machine import acpi, aml, power


def walk(tables):
    """Tables by signature, found as an operating system finds them: RSDP, XSDT, FADT, DSDT."""
    images = tables.images
    xsdt_at = struct.unpack_from("<Q", images[tables.rsdp], 24)[0]
    xsdt = images[xsdt_at]
    listed = struct.unpack_from(f"<{(len(xsdt) - 36) // 8}Q", xsdt, 36)
    found = {images[at][:4].decode(): images[at] for at in (xsdt_at, *listed)}
    found["DSDT"] = images[struct.unpack_from("<I", found["FACP"], 40)[0]]
    found["FACS"] = images[struct.unpack_from("<I", found["FACP"], 36)[0]]
    return found


@pytest.fixture(name="tables")
def built():
    return acpi.build(0xE1000, [0, 1, 2, 300])


def test_every_table_with_a_header_has_its_length_and_sums_to_zero(tables):
    found = {k: v for k, v in walk(tables).items() if k != "FACS"}

    assert {k: (len(v), 0) for k, v in found.items()} == {
        k: (struct.unpack_from("<I", v, 4)[0], sum(v) & 0xFF) for k, v in found.items()
    }


def test_both_checksums_of_the_rsdp_are_right(tables):
    rsdp = tables.images[tables.rsdp]

    assert (b"RSD PTR ", 0, 0, 36) == (
        rsdp[:8],
        sum(rsdp[:20]) & 0xFF,
        sum(rsdp) & 0xFF,
        len(rsdp),
    )


def test_root_tables_list_the_same(tables):
    rsdp = tables.images[tables.rsdp]
    rsdt = tables.images[struct.unpack_from("<I", rsdp, 16)[0]]
    xsdt = tables.images[struct.unpack_from("<Q", rsdp, 24)[0]]

    assert struct.unpack_from("<2I", rsdt, 36) == struct.unpack_from("<2Q", xsdt, 36)


def test_tables_do_not_overlap(tables):
    spans = sorted((at, at + len(image)) for at, image in tables.images.items())

    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans)), spans


def test_fadt_tells_where_the_fixed_registers_are(tables):
    fadt = walk(tables)["FACP"]
    ports = [struct.unpack_from("<I", fadt, offset)[0] for offset in (56, 64, 76)]

    assert ([power.PM_BASE, power.PM_BASE + 4, power.PM_BASE + 8], 9, 244) == (
        ports,
        struct.unpack_from("<H", fadt, 46)[0],
        len(fadt),
    )


def test_fadt_extended_addresses_agree_with_the_old_ones(tables):
    fadt = walk(tables)["FACP"]
    extended = [struct.unpack_from("<BBBBQ", fadt, at) for at in (148, 172, 208)]

    assert [(1, 32, power.PM_BASE), (1, 16, power.PM_BASE + 4), (1, 32, power.PM_BASE + 8)] == [
        (space, width, address) for space, width, _, _, address in extended
    ]


def test_madt_lists_processors_io_apic_overrides_and_the_nmi_pin(tables):
    madt, at, entries = walk(tables)["APIC"], 44, []
    while at < len(madt):
        kind, length = madt[at], madt[at + 1]
        entries.append((kind, madt[at + 2 : at + length].hex()))
        at += length

    assert [
        (0, "000001000000"),
        (0, "010101000000"),
        (0, "020201000000"),
        (9, "00002c0100000100000003000000"),
        (1, "00000000c0fe00000000"),
        (2, "0000020000000000"),
        (2, "0009090000000d00"),
        (4, "ff000001"),
    ] == entries


def test_dsdt_names_the_sleep_types(tables):
    """As iasl of ACPICA disassembles it: Name (\\_S3, Package (4) {1, 1, 0, 0}), \\_S5 likewise."""
    body = walk(tables)["DSDT"][36:]

    assert b"\x08\\_S3_\x12\x06\x04\x01\x01\0\0\x08\\_S5_\x12\x06\x04\0\0\0\0" == body


def test_facs_is_64_bytes_with_no_waking_vector(tables):
    facs = walk(tables)["FACS"]

    assert (64, b"FACS", 0) == (len(facs), facs[:4], struct.unpack_from("<I", facs, 12)[0])


@pytest.mark.parametrize(
    ("value", "code"),
    [(0, "00"), (1, "01"), (2, "0a02"), (0x1234, "0b3412"), (0x12345678, "0c78563412")],
)
def test_integer_takes_the_shortest_form(value, code):
    assert code == aml.integer(value).hex()


@pytest.mark.parametrize(
    ("content", "code"), [(0, "01"), (62, "3f"), (63, "4104"), (4093, "4fff"), (4094, "810001")]
)
def test_package_length_counts_its_own_bytes(content, code):
    assert code == aml.package_length(content).hex()


def test_what_aml_cannot_hold_is_refused():
    with pytest.raises(ValueError, match="DWordConst"):
        aml.integer(1 << 32)
    with pytest.raises(ValueError, match="one name segment"):
        aml.segment("LONGNAME")
    with pytest.raises(ValueError, match="too long"):
        aml.package_length(1 << 28)
