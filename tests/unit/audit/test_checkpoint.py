import base64

import pytest

from gateway.audit.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint, sign_checkpoint
from gateway.audit.errors import NoteError, NoteSignatureError
from gateway.audit.note import Ed25519Signer, sign_note
from gateway.audit.tree import EMPTY_ROOT

LOG = Ed25519Signer.from_seed("log.example", bytes(32))
OTHER = Ed25519Signer.from_seed("other.example", bytes([1]) * 32)
ROOT = bytes(range(32))
ROOT_TEXT = base64.b64encode(ROOT).decode()


def test_a_signed_checkpoint_opens():
    checkpoint = Checkpoint("log.example", 7, ROOT)
    assert open_checkpoint(sign_checkpoint(checkpoint, LOG), [LOG.verifier]) == checkpoint


def test_a_checkpoint_of_another_log_signed_by_a_trusted_key_is_refused():
    text = Checkpoint("log.example", 7, ROOT).to_text()
    foreign = sign_note(text, [OTHER])
    with pytest.raises(NoteSignatureError):
        open_checkpoint(foreign, [LOG.verifier, OTHER.verifier])
    assert open_checkpoint(foreign, [OTHER.verifier], origin="log.example").size == 7
    with pytest.raises(NoteSignatureError):
        open_checkpoint(foreign, [OTHER.verifier], origin="third.example")


def test_a_log_signs_only_under_its_own_name():
    with pytest.raises(NoteError):
        sign_checkpoint(Checkpoint("log.example", 7, ROOT), OTHER)


def test_extension_lines_of_other_logs_are_kept():
    text = f"log.example\n7\n{ROOT_TEXT}\nanything\n"
    assert parse_checkpoint(text).extensions == ("anything",)
    assert parse_checkpoint(text).to_text() == text


def test_the_largest_size_is_read():
    assert parse_checkpoint(f"log.example\n{2**63 - 1}\n{ROOT_TEXT}\n").size == 2**63 - 1


def test_the_empty_log_has_the_empty_root():
    empty = base64.b64encode(EMPTY_ROOT).decode()
    assert parse_checkpoint(f"log.example\n0\n{empty}\n").size == 0
    with pytest.raises(NoteError):
        parse_checkpoint(f"log.example\n0\n{ROOT_TEXT}\n")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "log.example\n7\n",
        f"log.example\n7\n{ROOT_TEXT}",
        f"\n7\n{ROOT_TEXT}\n",
        f"log.example\n07\n{ROOT_TEXT}\n",
        f"log.example\n+7\n{ROOT_TEXT}\n",
        f"log.example\n7_0\n{ROOT_TEXT}\n",
        f"log.example\n\u0667\n{ROOT_TEXT}\n",
        f"log.example\n-7\n{ROOT_TEXT}\n",
        f"log.example\n 7\n{ROOT_TEXT}\n",
        f"log.example\n{2**63}\n{ROOT_TEXT}\n",
        f"log.example\n{'9' * 5000}\n{ROOT_TEXT}\n",
        f"log.example\n7\n{ROOT_TEXT[:-1]}\n",
        f"log.example\n7\n{ROOT_TEXT}=\n",
        f"log.example\n7\n{base64.b64encode(ROOT[:-1]).decode()}\n",
        f"log.example\n7\n{ROOT_TEXT}\n\n",
    ],
)
def test_a_malformed_checkpoint_is_refused(text):
    with pytest.raises(NoteError):
        parse_checkpoint(text)
