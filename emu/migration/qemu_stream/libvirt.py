"""The header that libvirt puts in front of a stream that `virsh save` writes.

::

    16 bytes  LibvirtQemudSave, or LibvirtQemudPart while the image is being written
    u32       version, u32 length of the XML area, u32 was running, u32 format of the body,
              u32 offset of the cookie in the XML area, 14 unused words
    XML area  domain XML, NUL, [cookie XML, NUL], zeroes
    body      the migration stream

The words are in the byte order of the host that wrote them. Read in libvirt,
src/qemu/qemu_saveimage.h (virQEMUSaveHeader) and qemu_saveimage_format.h.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from emu.migration.qemu_stream.cursor import Buffer
from emu.migration.qemu_stream.errors import StreamError

COMPLETE = b"LibvirtQemudSave"
PARTIAL = b"LibvirtQemudPart"
VERSIONS = (1, 2, 3)
FORMATS = ("raw", "gzip", "bzip2", "xz", "lzop", "zstd", "sparse")
HEADER_BYTES = 92

_WORDS = {"little": Struct("<19I"), "big": Struct(">19I")}


@dataclass(frozen=True)
class SaveImage:
    """A libvirt save image around a stream that begins at `body`."""

    complete: bool
    byte_order: str
    version: int
    was_running: int
    xml: str
    cookie: str | None
    body: int

    @classmethod
    def parse(cls, data: Buffer) -> SaveImage | None:
        """Read the header and the XML; None when `data` does not begin with one.

        Raises `StreamError`, also for a body that is compressed or sparse, with its format's name.
        """
        magic = data[: len(COMPLETE)]
        if magic not in (COMPLETE, PARTIAL):
            return None
        if len(data) < HEADER_BYTES:
            raise StreamError(
                len(data), f"libvirt header: {HEADER_BYTES} bytes expected, found {len(data)}"
            )
        byte_order = "little" if _version(data, "little") in VERSIONS else "big"
        words = _WORDS[byte_order].unpack_from(data, len(COMPLETE))
        version, area, was_running, kind, cookie = words[:5]
        if version not in VERSIONS:
            raise StreamError(
                len(COMPLETE), f"libvirt header: version 1 to 3 expected, found {version:#x}"
            )
        body = HEADER_BYTES + area
        if body > len(data):
            raise StreamError(
                HEADER_BYTES,
                f"libvirt XML: {area} bytes expected, {len(data) - HEADER_BYTES} are left",
            )
        if kind >= len(FORMATS):
            raise StreamError(28, f"libvirt header: format {kind} of the body is not known")
        if kind:
            raise StreamError(
                body, f"the body of the libvirt save image is {FORMATS[kind]}: make it raw first"
            )
        return cls(
            complete=magic == COMPLETE,
            byte_order=byte_order,
            version=version,
            was_running=was_running,
            xml=_text(data, HEADER_BYTES, body, "XML"),
            cookie=_text(data, HEADER_BYTES + cookie, body, "cookie") if cookie else None,
            body=body,
        )


def _version(data: Buffer, byte_order: str) -> int:
    """The header's version, read in one byte order."""
    return int(_WORDS[byte_order].unpack_from(data, len(COMPLETE))[0])


def wrap(stream: bytes, xml: str, *, cookie: str | None = None, was_running: bool = True) -> bytes:
    """A complete save image with `stream` as its raw body, as libvirt 7 and later lay it out."""
    documents = xml.encode() + b"\0"
    cookie_offset = len(documents) if cookie is not None else 0
    if cookie is not None:
        documents += cookie.encode() + b"\0"
    area = documents + bytes(64 * 1024)
    words = (2, len(area), int(was_running), 0, cookie_offset, *(0,) * 14)
    return COMPLETE + _WORDS["little"].pack(*words) + area + stream


def _text(data: Buffer, begin: int, end: int, what: str) -> str:
    """The UTF-8 text from `begin` to the next NUL before `end`; raises `StreamError`."""
    nul = data.find(b"\0", begin, end)
    if nul < 0:
        raise StreamError(begin, f"libvirt {what}: no NUL at its end")
    try:
        return data[begin:nul].decode("utf-8")
    except UnicodeDecodeError as error:
        raise StreamError(begin + error.start, f"libvirt {what}: {error.reason}") from None
