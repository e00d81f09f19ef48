"""A log as a static directory: exported, grown on, and examined elsewhere."""

import os
import shutil

import pytest

from gateway.audit.bundle import encode_bundle, split_bundle
from gateway.audit.checkpoint import open_checkpoint
from gateway.audit.errors import LogMismatchError, LogUnavailableError, NoteSignatureError, ProofError
from gateway.audit.export import export_tiles
from gateway.audit.note import Ed25519Signer
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.store import prepare_entry
from gateway.audit.tile_directory import examine_directory
from gateway.audit.tiles import Tile, tile_path
from gateway.errors import ConfigError

from .conftest import NOON, ORIGIN

COUNT = 600


@pytest.fixture
def log(path, fill):
    fill(path, COUNT, batch=23)
    return path


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "exported"


@pytest.fixture
def export(directory, identity):
    def export(path, to=directory):
        with SqliteReader(path) as reader:
            return export_tiles(reader, to, [identity.verifier])

    return export


@pytest.fixture
def examine(directory, identity):
    def examine(at=directory, **options):
        return examine_directory(at, [identity.verifier], **options)

    return examine


@pytest.fixture
def grow(open_log, make_entry):
    """Return a function that appends `count` entries more to a log."""
    from gateway.audit.sqlite import SqliteStore

    def grow(path, first, count):
        with SqliteStore(path) as store:
            log = open_log(store)
            store.append(
                [prepare_entry(make_entry(first + at)) for at in range(count)], log._appender.sign, NOON
            )
            log.close()

    return grow


def files(directory):
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_the_directory_holds_what_the_specification_names(log, directory, export):
    exported = export(log)
    assert set(files(directory)) == {
        "checkpoint",
        *(f"tile/{level}/{number}" for level in ("0", "entries") for number in ("000", "001", "002.p/88")),
        "tile/1/000.p/2",
    }
    assert (exported.checkpoint.size, exported.previous_size, exported.files) == (COUNT, 0, 7)
    with SqliteReader(log) as reader:
        assert files(directory)["checkpoint"].decode() == reader.checkpoint()
        bundle = files(directory)["tile/entries/001"]
        assert split_bundle(bundle, 256) == reader.entries(256, 512)


def test_an_export_that_is_examined_has_no_findings(log, export, examine):
    export(log)
    seen = []
    report = examine(progress=lambda done, total: seen.append((done, total)))
    assert (report.entries, report.findings) == (COUNT, ())
    assert report.checkpoint.origin == ORIGIN
    assert seen[0] == (0, COUNT)
    assert seen[-1] == (COUNT, COUNT)


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 512])
def test_logs_of_all_shapes_are_exported_and_examined(path, fill, export, examine, count):
    fill(path, count, batch=100)
    export(path)
    report = examine()
    assert (report.entries, report.findings) == (count, ())


def test_a_second_export_only_adds(log, directory, export, examine, grow):
    export(log)
    before = files(directory)
    grow(log, COUNT, 300)
    exported = export(log)
    after = files(directory)
    assert {name: after[name] for name in before if name != "checkpoint"} == {
        name: content for name, content in before.items() if name != "checkpoint"
    }
    assert exported.previous_size == COUNT
    assert exported.files == len(after) - len(before) == 5
    assert examine().findings == ()


def test_an_export_without_news_changes_nothing(log, directory, export):
    export(log)
    before = files(directory)
    assert export(log).files == 0
    assert files(directory) == before


def test_an_interrupted_export_is_taken_up(log, directory, export, examine):
    export(log)
    (directory / "checkpoint").unlink()
    (directory / "tile/1/000.p/2").unlink()
    (directory / ".writing").mkdir()
    (directory / ".writing" / "half").write_bytes(b"half")
    assert export(log).files == 1
    assert examine().findings == ()
    assert not (directory / ".writing").exists()


def test_the_checkpoint_is_written_last(log, directory, export, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gateway.audit.tile_files._flush", fail)
    with pytest.raises(LogUnavailableError, match="space"):
        export(log)
    assert (directory / "tile/0/000").exists()
    assert not (directory / "checkpoint").exists()


def test_a_tile_that_differs_is_never_replaced(log, directory, export):
    export(log)
    (directory / "checkpoint").unlink()
    spoilt = bytes(8192)
    (directory / "tile/0/001").write_bytes(spoilt)
    with pytest.raises(LogMismatchError, match="Tiles never change"):
        export(log)
    assert (directory / "tile/0/001").read_bytes() == spoilt


def test_a_log_with_another_history_is_not_added(log, export, tmp_path, fill, make_entry):
    export(log)
    forged = tmp_path / "forged.db"
    fill(forged, COUNT + 100, make=lambda number: make_entry(number, records=7 if number == 3 else number))
    with pytest.raises(LogMismatchError, match="does not extend"):
        export(forged)


def test_a_log_that_was_rolled_back_is_not_added(log, export, tmp_path, fill):
    export(log)
    older = tmp_path / "older.db"
    fill(older, COUNT - 100)
    with pytest.raises(LogMismatchError, match="rolled back"):
        export(older)


def test_without_the_look_at_the_old_checkpoint_a_fork_would_be_added(
    log, export, tmp_path, fill, make_entry, directory, examine
):
    """The control of the two tests before: nothing else would have refused."""
    fork = tmp_path / "fork.db"
    fill(fork, COUNT, make=lambda number: make_entry(number, records=7 if number == 590 else number))
    with SqliteReader(log) as reader:
        kept = reader.checkpoint()
    export(fork)
    assert examine().findings == ()
    verifier = Ed25519Signer.from_seed(ORIGIN, bytes(range(32))).verifier
    report = examine(kept=open_checkpoint(kept, [verifier]))
    assert [finding.place for finding in report.findings] == ["checkpoint"]
    assert "history was changed" in report.findings[0].what


def test_a_log_that_extends_a_kept_checkpoint_is_sound(log, export, examine, signer):
    export(log)
    with SqliteReader(log) as reader:
        for size in (0, 23, 253, 276, COUNT):
            kept = open_checkpoint(reader.checkpoint_at(size), [signer.verifier])
            assert examine(kept=kept).findings == ()


def test_a_directory_older_than_the_kept_checkpoint_is_found(log, tmp_path, export, examine, signer, grow):
    export(log)
    grow(log, COUNT, 10)
    with SqliteReader(log) as reader:
        kept = open_checkpoint(reader.checkpoint(), [signer.verifier])
    assert "older" in examine(kept=kept).findings[0].what


def test_a_folder_with_other_files_is_left_alone(log, directory, export):
    directory.mkdir()
    (directory / "thesis.odt").write_text("do not lose")
    with pytest.raises(ConfigError, match="other files"):
        export(log)
    assert [path.name for path in directory.iterdir()] == ["thesis.odt"]


def test_two_exports_to_one_folder_do_not_mix(log, directory, export):
    import fcntl

    directory.mkdir()
    descriptor = os.open(directory, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(LogUnavailableError, match="Another export"):
        export(log)
    os.close(descriptor)
    assert export(log).files == 7


def test_a_log_signed_by_another_key_is_not_exported(log, directory):
    stranger = Ed25519Signer.from_seed(ORIGIN, bytes(32))
    with SqliteReader(log) as reader, pytest.raises(NoteSignatureError):
        export_tiles(reader, directory, [stranger.verifier])


def test_a_folder_that_cannot_be_made_is_told(log, tmp_path, export):
    (tmp_path / "file").write_text("")
    with pytest.raises(LogUnavailableError, match="cannot be written"):
        export(log, tmp_path / "file" / "sub")


def changed(directory, name, change):
    """Change the file, which must make a difference."""
    path = directory / name
    content = bytearray(path.read_bytes())
    new = bytes(change(content))
    assert new != path.read_bytes()
    path.write_bytes(new)


def flip(content):
    content[len(content) // 2] ^= 1
    return content


def swap_entries(content):
    entries = split_bundle(bytes(content), 256)
    return encode_bundle([entries[1], entries[0], *entries[2:]])


def edit_entry(content):
    return content.replace(b'"records":300', b'"records":301')


@pytest.mark.parametrize(
    ("name", "change", "places"),
    [
        ("tile/entries/000", flip, {"entry", "tile", "checkpoint"}),
        ("tile/entries/000", swap_entries, {"entry", "tile", "checkpoint"}),
        ("tile/entries/001", edit_entry, {"entry", "tile", "checkpoint"}),
        ("tile/entries/002.p/88", lambda raw: raw[:-1], {"entry"}),
        ("tile/entries/002.p/88", lambda raw: raw + b"\0\0", {"entry"}),
        ("tile/entries/000", lambda raw: raw[:0], {"entry"}),
        ("tile/0/000", flip, {"entry", "tile"}),
        ("tile/0/001", lambda raw: raw[:-32], {"tile"}),
        ("tile/0/002.p/88", lambda raw: raw + bytes(32), {"tile"}),
        ("tile/1/000.p/2", flip, {"tile"}),
        ("checkpoint", flip, {"checkpoint"}),
        ("checkpoint", lambda raw: raw.replace(b"600", b"599"), {"checkpoint"}),
        ("checkpoint", lambda _: b"\xff", {"checkpoint"}),
    ],
)
def test_every_change_to_a_file_is_found(log, directory, export, examine, name, change, places):
    export(log)
    assert examine().findings == ()  # the control: before the change there is nothing to find
    changed(directory, name, change)
    assert {finding.place for finding in examine().findings} == places


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("tile/entries/001", "entry"),
        ("tile/entries/002.p/88", "entry"),
        ("tile/0/000", "tile"),
        ("tile/1/000.p/2", "tile"),
        ("checkpoint", "checkpoint"),
    ],
)
def test_every_missing_file_is_found(log, directory, export, examine, name, place):
    export(log)
    (directory / name).unlink()
    assert place in {finding.place for finding in examine().findings}


def test_a_bundle_and_its_tile_missing_together_are_found(log, directory, export, examine):
    export(log)
    (directory / "tile/entries/001").unlink()
    (directory / "tile/0/001").unlink()
    report = examine()
    assert report.entries == 256
    assert {finding.place for finding in report.findings} == {"entry", "tile"}


def test_a_changed_tile_from_an_export_before_is_found(log, directory, export, examine, grow):
    export(log)
    grow(log, COUNT, 300)
    export(log)
    assert examine().findings == ()
    for name, place in (("tile/0/002.p/88", "tile"), ("tile/entries/002.p/88", "entry")):
        good = (directory / name).read_bytes()
        changed(directory, name, flip)
        assert place in {finding.place for finding in examine().findings}
        (directory / name).write_bytes(good)


def test_a_strange_file_is_found(log, directory, export, examine):
    export(log)
    (directory / "tile/0/note.txt").write_text("")
    assert [finding.place for finding in examine().findings] == ["directory"]


@pytest.mark.parametrize(
    "make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), lambda path: path.mkdir()]
)
def test_what_is_no_plain_file_is_found_and_not_waited_for(log, directory, export, examine, make):
    export(log)
    path = directory / "tile/entries/001"
    path.unlink()
    make(path)
    assert "entry" in {finding.place for finding in examine().findings}


def test_a_full_tile_serves_where_the_partial_one_was_cleared_away(log, directory, export, examine, grow):
    export(log)
    old = (directory / "checkpoint").read_bytes()
    grow(log, COUNT, 300)
    export(log)
    shutil.rmtree(directory / "tile/0/002.p")
    shutil.rmtree(directory / "tile/entries/002.p")
    (directory / "checkpoint").write_bytes(old)
    report = examine()
    assert (report.entries, report.findings) == (COUNT, ())


def test_no_directory_of_a_log_is_a_finding(tmp_path, examine):
    assert [finding.place for finding in examine(tmp_path).findings] == ["checkpoint"]


@pytest.mark.parametrize("raw", [b"", b"\0", b"\0\5abcd", b"\0\1a\0", b"\0\1a\0\1b"])
def test_a_bundle_of_another_length_is_refused(raw):
    with pytest.raises(ProofError):
        split_bundle(raw, 1)


def test_an_entry_that_fits_into_no_bundle_is_refused():
    assert split_bundle(encode_bundle([bytes(65_535), b""]), 2) == [bytes(65_535), b""]
    with pytest.raises(ProofError):
        encode_bundle([bytes(65_536)])


def test_paths_of_bundles_are_those_of_the_specification():
    assert tile_path(Tile(None, 1_234_067, 9)) == "tile/entries/x001/x234/067.p/9"
