"""Looking at entries together and looking at each of them tell the same."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.entry_forms import EntryForms
from gateway.clock import rfc3339
from gateway.evidence.canonical import encode_canonical
from gateway.model.entry import Entry, EntryKind

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
tables = st.dictionaries(texts, texts, max_size=3)
entries = st.builds(
    Entry,
    v=st.sampled_from([1, 1, 1, 1, 2]),
    kind=st.sampled_from(EntryKind),
    time=st.integers(-400, 400).map(lambda seconds: rfc3339(NOON + timedelta(seconds=seconds)))
    | st.sampled_from(
        ["2026-02-30T12:00:00.000000Z", "2026-03-01T12:00:00Z", "0000-01-01T00:00:00.000000Z", ""]
    ),
    exchange=texts,
    consumer=texts,
    reasons=st.lists(texts, max_size=2).map(tuple),
    obligations=tables,
    records=st.integers(0, 2**63),
    page=st.none() | st.integers(0, 9),
    commitments=tables,
)


SPOILING = {
    "not at all": lambda data, at: data,
    "flip": lambda data, at: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :],
    "space": lambda data, at: data.replace(b",", b", ", 1),
    "line": lambda data, at: data[:at] + b"\n" + data[at:],
    "two": lambda data, at: data + b"\n" + data,
    "cut": lambda data, at: data[:at],
    "unknown": lambda data, at: data[:-1] + b',"zzz":1}',
    "default": lambda data, at: b'{"bytes":0,' + data[1:],
}
"""Changes to the canonical form of an entry, harmless or not."""


def spoil(data, how, at):
    return SPOILING[how](data, at % len(data))


chunks = st.lists(
    st.tuples(
        entries,
        st.sampled_from([*["not at all"] * 8, *SPOILING]),
        st.integers(0, 10_000),
    ),
    min_size=1,
    max_size=6,
)


@given(st.lists(chunks, min_size=1, max_size=3))
def test_the_quick_way_and_the_slow_way_agree(log):
    quick, slow = EntryForms(), EntryForms()
    first = 0
    for chunk in log:
        datas = [spoil(encode_canonical(entry), how, at) for entry, how, at in chunk]
        together = quick.examine_together(datas)
        examined = slow.examine(first, datas)
        if together is not None:
            assert examined.findings == []
            for one, other in zip(together, examined.entries, strict=True):
                assert encode_canonical(one) == encode_canonical(other)
        else:
            # What the quick way does not vouch for, the slow way examines; it may find nothing.
            assert quick.examine(first, datas).findings == examined.findings
        first += len(datas)


@given(st.lists(st.tuples(st.integers(0, 200), texts, tables), min_size=1, max_size=50))
def test_the_quick_way_vouches_for_what_the_gateway_writes(log):
    """The control: if it never did, the two ways would agree for nothing."""
    datas = [
        encode_canonical(
            Entry(
                v=1,
                kind=EntryKind.EXCHANGE_DENIED,
                time=rfc3339(NOON + timedelta(seconds=at)),
                exchange=text,
                detail=table,
            )
        )
        for at, text, table in log
    ]
    assert EntryForms().examine_together(datas) is not None
