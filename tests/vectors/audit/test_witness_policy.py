"""Policies of the specification and of other people's tests (c2sp.org/tlog-policy)."""

import base64

import pytest

from gateway.audit.cosignature import Ed25519CosignatureSigner
from gateway.audit.errors import WitnessPolicyError
from gateway.audit.note import VerifierKey, parse_vkey
from gateway.audit.witness_policy import WitnessPolicy
from gateway.evidence.keys import SigningKey

LOG = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
# transparency-dev/formats, tlog_policy_test.go: keys of logs, used there with type 0x04 for witnesses
WIT_LOG_KEYS = [
    "Wit1+55ee4561+AVhZSmQj9+SoL+p/nN0Hh76xXmF7QcHfytUrI1XfSClk",
    "Wit2+85ecc407+AWVbwFJte9wMQIPSnEnj4KibeO6vSIOEDUTDp3o63c2x",
    "Wit3+d3ed3be7+ASb6Uz1+fxAcXkMvDd7nGa3FjDce7LxIKmbbTCT0MpVn",
]
W = [VerifierKey(key.name, 4, key.public).to_text() for key in map(parse_vkey, WIT_LOG_KEYS)] + [
    Ed25519CosignatureSigner(f"Wit{number}", SigningKey(bytes([number]) * 32)).verifier.vkey()
    for number in (4, 5, 6)
]


def fill(text):
    return text.format(log=LOG, wit1_log_key=WIT_LOG_KEYS[0], w=W).encode()


SPEC_EXAMPLE = """log {log}

witness X1 {w[0]}
witness X2 {w[1]}
witness X3 {w[2]}
group X-witnesses 2 X1 X2 X3

witness Y1 {w[3]}
witness Y2 {w[4]}
witness Y3 {w[5]}
group Y-witnesses any Y1 Y2 Y3

group X-and-Y all X-witnesses Y-witnesses
quorum X-and-Y
"""


@pytest.mark.parametrize(
    ("witnesses", "enough"),
    [
        ("", False),
        ("X1 X2", False),
        ("Y1 Y2 Y3", False),
        ("X1 Y1", False),
        ("X1 X3 Y2", True),
        ("X1 X2 X3 Y1 Y2 Y3", True),
    ],
)
def test_the_example_of_the_specification(witnesses, enough):
    policy = WitnessPolicy.parse(fill(SPEC_EXAMPLE))
    assert [(group.name, group.threshold) for group in policy.groups] == [
        ("X-witnesses", 2),
        ("Y-witnesses", 1),
        ("X-and-Y", 2),
    ]
    assert policy.meets_quorum(frozenset(witnesses.split())) is enough


@pytest.mark.parametrize(
    ("text", "names", "quorum"),
    [
        ("quorum none\n", [], "none"),
        (
            "\n# comment\n\t # another\n\twitness \t w1  {w[0]}   https://w1.example.com/  \n\n  quorum\tw1",
            ["w1"],
            "w1",
        ),
        ("log {log} https://log.example.com/\nwitness w1 {w[0]}\nquorum w1\n", ["w1"], "w1"),
        (
            "witness all {w[0]}\nwitness any {w[1]}\ngroup group 2 all any\nquorum group\n",
            ["all", "any"],
            "group",
        ),
    ],
    ids=["minimal", "white space", "URLs", "keywords as names"],
)
def test_a_policy_of_the_go_tests_is_accepted(text, names, quorum):
    policy = WitnessPolicy.parse(fill(text))
    assert [witness.name for witness in policy.witnesses] == names
    assert policy.quorum == quorum
    assert WitnessPolicy.parse(policy.to_bytes()) == policy


def test_names_are_opaque_octets():
    raw = (
        b"witness w\xe2\x84\xaa\x80 "
        + W[0].encode()
        + b"\nwitness wK "
        + W[1].encode()
        + b"\nquorum w\xe2\x84\xaa\x80\n"
    )
    policy = WitnessPolicy.parse(raw)
    assert policy.to_bytes() == raw
    assert not policy.meets_quorum({"wK"})


ECDSA = "ecdsa.example.com+00000000+" + base64.b64encode(b"\x02\x01\x02\x03").decode()


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("quorum none\n\x01", 2, "control character"),
        ("quorum none\r\n", 1, "control character"),
        ("# \x0c\nquorum none\n", 1, "control character"),
        ("# \x7f\nquorum none\n", 1, "control character"),
        ("quibble w1\nquorum none\n", 1, "begins with none of"),
        ("witness w1 {w[0]} https://w1.example.com/ # comment\nquorum w1\n", 1, "must be: witness"),
        ("log\nquorum none\n", 1, "must be: log"),
        ("log garbage\nquorum none\n", 1, "no usable key"),
        ("log {w[0]}\nquorum none\n", 1, "type 0x01"),
        ("log {log}\nlog {log} https://log.example.com/\nquorum none\n", 2, "repeats a public key"),
        ("witness w1\nquorum none\n", 1, "must be: witness"),
        ("witness w1 " + ECDSA + "\nquorum w1\n", 1, "no usable key"),
        ("witness w1 {wit1_log_key}\nquorum w1\n", 1, "type 0x04"),
        ("witness none {w[0]}\nquorum none\n", 1, "defines `none`"),
        ("witness w1 {w[0]}\nwitness w1 {w[1]}\nquorum w1\n", 2, "defines a name"),
        ("witness w1 {w[0]}\nwitness w2 {w[0]}\nquorum w1\n", 2, "repeats a public key"),
        ("witness w1 {w[0]}\ngroup w1 any w1\nquorum w1\n", 2, "defines a name"),
        ("witness w1 {w[0]}\ngroup g1 1\nquorum w1\n", 2, "must be: group"),
        ("witness w1 {w[0]}\ngroup none any w1\nquorum none\n", 2, "defines `none`"),
        ("witness w1 {w[0]}\ngroup g1 0 w1\nquorum g1\n", 2, "threshold"),
        ("witness w1 {w[0]}\ngroup g1 -1 w1\nquorum g1\n", 2, "threshold"),
        ("witness w1 {w[0]}\ngroup g1 01 w1\nquorum g1\n", 2, "threshold"),
        ("witness w1 {w[0]}\ngroup g1 ² w1\nquorum g1\n", 2, "threshold"),
        ("witness w1 {w[0]}\ngroup g1 2 w1\nquorum g1\n", 2, "more members"),
        ("witness w1 {w[0]}\ngroup g1 any w2\nquorum g1\n", 2, "no line above defines"),
        ("group g1 any w1\nwitness w1 {w[0]}\nquorum g1\n", 1, "no line above defines"),
        ("witness w1 {w[0]}\ngroup g1 any none w1\nquorum g1\n", 2, "no line above defines"),
        ("witness w1 {w[0]}\ngroup g1 any g1 w1\nquorum g1\n", 2, "no line above defines"),
        ("witness w1 {w[0]}\ngroup g1 all w1 w1\nquorum g1\n", 2, "in a group already"),
        (
            "witness w1 {w[0]}\nwitness w2 {w[1]}\ngroup g1 any w1 w2\ngroup g2 any w1\nquorum g1\n",
            4,
            "in a group already",
        ),
        ("witness w1 {w[0]}\nquorum w1\nquorum w1\n", 3, "second quorum"),
        ("quorum unknown\n", 1, "no line above defines"),
        ("quorum w1\nwitness w1 {w[0]}\n", 1, "no line above defines"),
        ("quorum\n", 1, "must be: quorum"),
    ],
)
def test_a_policy_that_the_go_tests_refuse_is_refused_with_its_line(text, line, word):
    with pytest.raises(WitnessPolicyError, match=word) as refusal:
        WitnessPolicy.parse(fill(text))
    assert refusal.value.details["line"] == str(line)
    assert f"Line {line} " in refusal.value.message


@pytest.mark.parametrize("text", ["", "witness w1 {w[0]}\n"])
def test_a_policy_without_a_quorum_is_refused(text):
    with pytest.raises(WitnessPolicyError, match="no quorum line"):
        WitnessPolicy.parse(fill(text))
