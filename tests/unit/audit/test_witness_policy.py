from datetime import UTC, datetime, timedelta

import pytest

from gateway.audit.cosignature import Ed25519CosignatureSigner, cosigner_of
from gateway.audit.errors import NoteSignatureError, WitnessPolicyError, WitnessQuorumError
from gateway.audit.note import Ed25519Signer, NoteSignature, parse_note, sign_note
from gateway.audit.witness_policy import MAX_GROUPS, MAX_LOGS, MAX_POLICY_BYTES, MAX_WITNESSES, WitnessPolicy
from gateway.clock import FixedClock
from gateway.evidence.keys import SigningKey

ORIGIN = "example.com/log"
TEXT = f"{ORIGIN}\n7\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LOG = Ed25519Signer.from_seed(ORIGIN, bytes([77]) * 32)
OTHER_LOG = Ed25519Signer.from_seed(ORIGIN, bytes([78]) * 32)


def witness(number, moment=NOON):
    return Ed25519CosignatureSigner(
        f"w{number}.example", SigningKey(bytes([number]) * 32), FixedClock(moment)
    )


def policy(quorum="2", log=True):
    lines = [f"log {LOG.verifier.vkey()}"] if log else []
    lines += [f"witness w{number} {witness(number).verifier.vkey()}" for number in (1, 2, 3)]
    lines += [f"group g {quorum} w1 w2 w3", "quorum g", ""]
    return WitnessPolicy.parse("\n".join(lines).encode())


def note(*numbers, log=LOG):
    return sign_note(TEXT, [log, *map(witness, numbers)])


def test_a_quorum_witnesses_a_checkpoint():
    found = policy().verify(note(3, 1))
    assert (found.checkpoint.origin, found.checkpoint.size) == (ORIGIN, 7)
    assert [(item.witness, item.moment) for item in found.cosignatures] == [("w1", NOON), ("w3", NOON)]


@pytest.mark.parametrize("numbers", [(), (1,), (2, 2)])
def test_fewer_than_a_quorum_do_not(numbers):
    assert policy("any").meets_quorum({"w1"})  # the control
    with pytest.raises(WitnessQuorumError, match="not witnessed"):
        policy().verify(note(*numbers))


def test_witnesses_outside_the_policy_do_not_count():
    with pytest.raises(WitnessQuorumError):
        policy().verify(note(1, 4, 5, 6))


def test_a_cosignature_that_fails_refuses_the_note_though_others_suffice():
    good = note(1, 2, 3)
    line = parse_note(good).signatures[-1]
    spoilt = line.signature[:-1] + bytes([line.signature[-1] ^ 1])
    with pytest.raises(NoteSignatureError):
        policy().verify(good.replace(line.line(), NoteSignature(line.name, line.key_id, spoilt).line()))


def test_a_cosignature_without_a_time_does_not_count_as_a_witness_s():
    signer = witness(3)
    key = SigningKey(bytes([3]) * 32)
    raw = bytes(8) + key.sign(f"cosignature/v1\ntime 0\n{TEXT}".encode())
    timeless = NoteSignature(signer.name, signer.verifier.key_id, raw).line()
    assert cosigner_of(signer.verifier.vkey()).cosigned_at_s(TEXT, raw) == 0
    with pytest.raises(NoteSignatureError, match="when it was made"):
        policy().verify(note(1) + timeless)


def test_the_latest_of_several_cosignatures_tells_the_time():
    later = witness(1, NOON + timedelta(minutes=5)).signature_line(TEXT)
    found = policy("any").verify(note(1) + later)
    assert [item.moment for item in found.cosignatures] == [NOON + timedelta(minutes=5)]


def test_a_checkpoint_that_no_listed_log_signed_is_refused():
    with pytest.raises(NoteSignatureError):
        policy().verify(note(1, 2, 3, log=OTHER_LOG))


def test_witnesses_alone_do_not_make_a_checkpoint():
    with pytest.raises(NoteSignatureError):
        policy().verify(sign_note(TEXT, [witness(1), witness(2), witness(3)]))


def test_a_given_log_key_must_have_signed_besides_the_listed_one():
    both = sign_note(TEXT, [LOG, OTHER_LOG, witness(1), witness(2)])
    assert policy().verify(both, log_verifiers=[OTHER_LOG.verifier]).checkpoint.size == 7
    with pytest.raises(NoteSignatureError):
        policy().verify(note(1, 2), log_verifiers=[OTHER_LOG.verifier])


def test_a_policy_without_logs_needs_a_log_key():
    assert policy(log=False).verify(note(1, 2), log_verifiers=[LOG.verifier]).checkpoint.size == 7
    with pytest.raises(NoteSignatureError, match="lists no log"):
        policy(log=False).verify(note(1, 2))


def test_another_origin_than_expected_is_refused():
    assert policy().verify(note(1, 2), origin=ORIGIN).checkpoint.origin == ORIGIN
    with pytest.raises(NoteSignatureError, match="another log"):
        policy().verify(note(1, 2), origin="example.com/other")


def test_no_quorum_asks_for_nobody():
    free = WitnessPolicy.parse(f"log {LOG.verifier.vkey()}\nquorum none\n".encode())
    assert free.verify(note()).cosignatures == ()


def test_a_single_witness_may_be_the_quorum():
    one = WitnessPolicy.parse(
        f"log {LOG.verifier.vkey()}\nwitness w {witness(1).verifier.vkey()}\nquorum w\n".encode()
    )
    assert one.verify(note(1)).cosignatures[0].witness == "w"
    with pytest.raises(WitnessQuorumError):
        one.verify(note(2))


def test_a_file_is_read_and_its_errors_name_it(tmp_path):
    path = tmp_path / "witnesses.policy"
    path.write_bytes(policy().to_bytes())
    assert WitnessPolicy.load(path) == policy()
    path.write_bytes(b"# nothing\nquorum w\n")
    with pytest.raises(WitnessPolicyError, match=r"witnesses\.policy: Line 2") as refusal:
        WitnessPolicy.load(path)
    assert refusal.value.details["line"] == "2"
    with pytest.raises(WitnessPolicyError, match="cannot be read"):
        WitnessPolicy.load(tmp_path / "none")


def test_a_file_is_bounded(tmp_path):
    path = tmp_path / "witnesses.policy"
    path.write_bytes(b"#" * (MAX_POLICY_BYTES + 1))
    with pytest.raises(WitnessPolicyError, match="1 MiB"):
        WitnessPolicy.load(path)


def vkeys(kind, count):
    for number in range(count):
        seed = number.to_bytes(4, "big") * 8
        if kind == "witness":
            yield Ed25519CosignatureSigner(f"w{number}", SigningKey(seed)).verifier.vkey()
        else:
            yield Ed25519Signer.from_seed(f"l{number}", seed).verifier.vkey()


@pytest.mark.parametrize(
    ("limit", "lines"),
    [
        (MAX_LOGS, lambda n: [f"log {vkey}" for vkey in vkeys("log", n)]),
        (MAX_WITNESSES, lambda n: [f"witness w{at} {vkey}" for at, vkey in enumerate(vkeys("witness", n))]),
        (
            MAX_GROUPS,
            lambda n: (
                [f"witness w {next(vkeys('witness', 1))}"]
                + [f"group g{at} 1 {f'g{at - 1}' if at else 'w'}" for at in range(n)]
            ),
        ),
    ],
    ids=["logs", "witnesses", "groups in groups"],
)
def test_each_kind_of_line_has_a_limit_far_above_what_the_specification_asks_for(limit, lines):
    assert limit >= 32
    raw = "\n".join([*lines(limit), "quorum none", ""]).encode()
    assert WitnessPolicy.parse(raw).to_bytes() == raw
    with pytest.raises(WitnessPolicyError, match="one too many"):
        WitnessPolicy.parse("\n".join([*lines(limit + 1), "quorum none"]).encode())


def test_a_chain_of_groups_carries_a_cosignature_to_its_end():
    lines = [f"witness w {next(vkeys('witness', 1))}"]
    lines += [f"group g{at} 1 {f'g{at - 1}' if at else 'w'}" for at in range(MAX_GROUPS)]
    chain = WitnessPolicy.parse("\n".join([*lines, f"quorum g{MAX_GROUPS - 1}"]).encode())
    assert chain.meets_quorum({"w"})
    assert not chain.meets_quorum(frozenset())


def test_a_witness_whose_name_is_that_of_a_group_in_its_cosignature_gains_nothing():
    """Names in the policy and names of keys are different things."""
    impostor = Ed25519CosignatureSigner("g", SigningKey(bytes([9]) * 32), FixedClock(NOON))
    with pytest.raises(WitnessQuorumError):
        policy().verify(note(1) + impostor.signature_line(TEXT))
