"""Our log under the eyes of code that nobody here wrote: golang.org/x/mod/sumdb and Tessera's fsck.

Both examine the whole directory: each must call ours sound, and refuse it with one byte changed.
"""

import subprocess

import pytest

LIMIT_S = 60
WORKERS = 64

CHANGED = (
    "checkpoint",
    "tile/entries/000",
    "tile/entries/020",
    "tile/entries/039.p/16",
    "tile/0/007",
    "tile/1/000.p/39",
)


@pytest.fixture
def sumdb(program, signer):
    """Return a function that says whether golang.org/x/mod/sumdb finds a directory sound."""
    checker = program("tlog-checker")

    def is_sound(directory):
        done = subprocess.run(
            [checker, directory, signer.verifier.vkey()],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == 0 or done.stderr, "it refuses without a word"
        return done.returncode == 0 and done.stdout == "sound: 10000 entries\n"

    return is_sound


@pytest.fixture
def tessera(program, signer, tmp_path):
    """Return a function that says whether Tessera's fsck finds a directory sound."""
    checker = program("tessera-fsck")
    key = tmp_path / "log.vkey"
    key.write_text(signer.verifier.vkey())

    def is_sound(directory):
        command = [
            checker,
            f"-storage_url=file://{directory}/",
            f"-public_key={key}",
            f"-N={WORKERS}",
            "-ui=false",
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        except subprocess.TimeoutExpired:
            # A worker that has found something leaves the others waiting for ever.
            return False
        # It ends with 0 whatever it finds.
        return "Successfully fsck'd log with size 10000 " in done.stderr and "fsck failed" not in done.stderr

    return is_sound


@pytest.mark.parametrize("checker", ["sumdb", "tessera"])
def test_a_foreign_checker_finds_our_log_sound_and_refuses_it_changed(checker, directory, request):
    is_sound = request.getfixturevalue(checker)
    assert is_sound(directory)
    for name in CHANGED:
        path = directory / name
        good = path.read_bytes()
        changed = bytearray(good)
        changed[len(changed) // 2] ^= 1
        path.write_bytes(changed)
        assert not is_sound(directory), f"one bit changed in {name} goes unseen"
        path.unlink()
        assert not is_sound(directory), f"{name} missing goes unseen"
        path.write_bytes(good)
    assert is_sound(directory)
