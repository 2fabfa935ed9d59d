import pytest

from emu.machine import testdev


@pytest.mark.parametrize("size", [1, 2, 4])
def test_echo_reads_back_any_width(size):
    port = testdev.EchoPorts()
    port.port_write(0, 4, 0xAABBCCDD)
    port.port_write(0, size, 0x11223344 & (1 << 8 * size) - 1)
    expected = {1: 0xAABBCC44, 2: 0xAABB3344, 4: 0x11223344}[size]

    assert expected == port.port_read(0, 4)


def test_write_across_the_end_of_the_echo_keeps_four_bytes():
    port = testdev.EchoPorts()
    port.port_write(3, 2, 0xBEEF)

    assert (0xEF000000, 4) == (port.port_read(0, 4), len(port.data))


def test_irq_lines_follow_any_bit():
    seen = []
    lines = testdev.IrqLines(lambda line, level: seen.append((line, level)))
    lines.port_write(14, 1, 2)
    lines.port_write(14, 1, 0)

    assert [(14, True), (14, False)] == seen


@pytest.mark.parametrize(("value", "status"), [(0, 1), (1, 3), (0x10, 0x21)])
def test_debug_exit_status_is_odd(value, status):
    seen = []
    testdev.DebugExit(seen.append).port_write(0, 4, value)

    assert [status] == seen


@pytest.mark.parametrize(
    ("text", "times"),
    [(b"Shutdown", 1), (b"ShutdowShutdown", 1), (b"Shutdowm", 0), (b"SShutdown", 1)],
)
def test_shutdown_needs_the_whole_word_in_a_row(text, times):
    seen = []
    port = testdev.ShutdownPort(lambda: seen.append(1))
    for byte in text:
        port.port_write(0, 1, byte)

    assert times == len(seen)


def test_window_is_memory():
    window = testdev.MemoryWindow()
    window.mmio_write(8, 8, 0x1122334455667788)

    assert (0x3344, 0x1122) == (window.mmio_read(12, 2), window.mmio_read(14, 2))
