"""The line that answers a list question: one length, one reading."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError, Reason
from gateway.evidence.canonical import check_canonical
from gateway.evidence.list_answer import (
    ANSWER_BYTES,
    AnswerTooLongError,
    decode_list_answer,
    encode_list_answer,
)

CLASSES = st.lists(st.text(st.characters(codec="utf-8"), max_size=12), max_size=4)


@given(st.booleans(), CLASSES)
def test_every_answer_has_the_same_length_and_is_read_as_it_was_written(listed, classes):
    line = encode_list_answer(listed=listed, restrictions=classes)
    assert len(line) == ANSWER_BYTES
    check_canonical(msgspec.json.decode(line))
    answer = decode_list_answer(line + b"\n")
    assert (answer.listed, answer.restrictions) == (int(listed), tuple(sorted(set(classes))))


def test_restrictions_that_do_not_fit_are_refused():
    fits = "x" * (ANSWER_BYTES - len(encode_list_answer(listed=True).replace(b" ", b"")) - 2)
    assert len(encode_list_answer(listed=True, restrictions=[fits])) == ANSWER_BYTES
    with pytest.raises(AnswerTooLongError):
        encode_list_answer(listed=True, restrictions=[fits + "x"])


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line[:-1],
        lambda line: line + b"\n\n",
        lambda line: line.replace(b'"listed":1', b'"listed":2'),
        lambda line: line.replace(b'"listed":1', b'"listed":true'),
        lambda line: line.replace(b"  ", b" x", 1),
        lambda line: line.replace(b' "', b'" ', 1),
        lambda line: line.replace(b'["a","b"]', b'["b","a"]'),
        lambda line: line.replace(b'["a","b"]', b'["a","a"]'),
        lambda line: line.replace(b"padding", b"paddinG"),
        lambda _: b"",
        lambda _: b"\xff" * ANSWER_BYTES,
    ],
)
def test_what_is_not_such_a_line_to_the_letter_is_refused(change):
    line = encode_list_answer(listed=True, restrictions=["a", "b"])
    decode_list_answer(line)
    with pytest.raises(GatewayError) as raised:
        decode_list_answer(change(line))
    assert raised.value.reason in {Reason.SIGNATURE_INVALID, Reason.PROVIDER_SCHEMA}
