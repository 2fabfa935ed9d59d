"""Entries are found by content and never seen half-written."""

from emu.cpu.compiler import cache


def test_what_was_written_is_read(monkeypatch, tmp_path):
    monkeypatch.setenv("NESTLING_CACHE_DIR", str(tmp_path))
    cache.write("name", b"data")

    assert b"data" == cache.read("name")
    assert ["name"] == [p.name for p in cache.directory().iterdir()]


def test_a_missing_entry_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv("NESTLING_CACHE_DIR", str(tmp_path))

    assert cache.read("name") is None


def test_a_directory_that_cannot_be_made_is_no_error(monkeypatch, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("NESTLING_CACHE_DIR", str(tmp_path / "file"))
    cache.write("name", b"data")

    assert cache.read("name") is None


def test_parts_do_not_run_into_each_other():
    assert cache.digest(["ab", "c"]) != cache.digest(["a", "bc"])
