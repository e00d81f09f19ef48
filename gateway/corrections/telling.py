"""What each recipient is told: its own pages only, and of a record's key only what it got then.

A row of the register remembers in what form the recipient got each field of the key: as it is, as
pseudonym (with its epoch), or not at all. The same treatment is applied again to the key that was announced:
who got a pseudonym is told that pseudonym, who got nothing that names the record is told which exchange.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.corrections.register import BIT, NamedPage, ReceivedPage
from gateway.evidence.correction import (
    MAX_EXCHANGES,
    AffectedExchange,
    AffectedReleases,
    Correction,
    Notice,
    new_nonce,
)
from gateway.identifiers import IdentifierError, IdentifierKind, identifier_kind
from gateway.model import Dataset, Treatment
from gateway.pseudonym import Pseudonymiser
from gateway.pseudonym.errors import KeyEpochError

RecordKey = tuple[str, ...]
"""The texts of a record's key fields, in the dataset's order; identifiers in canonical form."""

_RELEASE: Final = Treatment.RELEASE.value
_PSEUDONYMISE: Final = Treatment.PSEUDONYMISE.value


def record_keys(dataset: Dataset, records: Iterable[Mapping[str, str]]) -> list[RecordKey]:
    """Return the keys of announced `records`, each once; every one names exactly the dataset's key fields."""
    kinds = [_kind(dataset, name) for name in dataset.corrections]
    keys = (
        tuple(_canonical(kind, record[name]) for kind, name in zip(kinds, dataset.corrections, strict=True))
        for record in records
    )
    return list(dict.fromkeys(keys))


@dataclass(slots=True)
class _Group:
    """Pages that reached one recipient in one form."""

    page: ReceivedPage
    tokens: set[bytes] = field(default_factory=set)
    exchanges: dict[str, set[bytes]] = field(default_factory=dict)


def notices(
    identity: tuple[str, str, str],
    correction: Correction,
    dataset: Dataset,
    keys: Mapping[bytes, RecordKey],
    pages: Iterable[NamedPage],
    pseudonymiser: Pseudonymiser,
) -> list[Notice]:
    """Return what each recipient of `pages` is told of `correction`.

    `identity` is (log's origin, id of the correction, when it was announced); `keys` are the announced
    keys by token.
    """
    origin, correction_id, announced = identity
    groups: dict[str, dict[tuple[str, str, str], _Group]] = {}
    for named in pages:
        page = named.page
        of_recipient = groups.setdefault(page.consumer, {})
        group = of_recipient.setdefault((page.purpose, page.key_epoch, page.form), _Group(page))
        group.tokens |= named.tokens
        group.exchanges.setdefault(page.exchange, set()).update(named.tokens)
    return [
        Notice(
            v=1,
            gateway=origin,
            correction=correction_id,
            recipient=recipient,
            dataset=correction.dataset,
            kind=correction.kind,
            reason=correction.reason,
            effective=correction.effective,
            announced=announced,
            releases=tuple(
                _releases(group, dataset, keys, pseudonymiser)
                for _, group in sorted(of_recipient.items(), key=lambda item: item[0])
            ),
            nonce=new_nonce(),
        )
        for recipient, of_recipient in sorted(groups.items())
    ]


def _releases(
    group: _Group, dataset: Dataset, keys: Mapping[bytes, RecordKey], pseudonymiser: Pseudonymiser
) -> AffectedReleases:
    page = group.page
    told = [_as_got(page, dataset, keys[token], pseudonymiser) for token in group.tokens]
    distinct = {tuple(sorted(key.items())): key for key in told if key}
    # A UUIDv7 begins with its time.
    newest = sorted(group.exchanges, reverse=True)
    return AffectedReleases(
        purpose=page.purpose,
        key_epoch=page.key_epoch,
        keys=tuple(key for _, key in sorted(distinct.items())),
        exchanges=tuple(
            AffectedExchange(exchange, 1 if page.form == BIT else len(group.exchanges[exchange]))
            for exchange in newest[:MAX_EXCHANGES]
        ),
        more_exchanges=max(len(newest) - MAX_EXCHANGES, 0),
    )


def _as_got(
    page: ReceivedPage, dataset: Dataset, key: RecordKey, pseudonymiser: Pseudonymiser
) -> dict[str, str]:
    """Return the parts of `key` as the recipient of `page` got them, and none that it did not get."""
    forms = page.form.split(",")
    if len(forms) != len(key):
        # An answer of one bit, or a page of before the dataset's key was described otherwise.
        return {}
    got = {}
    for name, form, value in zip(dataset.corrections, forms, key, strict=True):
        if form == _RELEASE:
            got[name] = value
        elif form == _PSEUDONYMISE:
            pseudonym = _pseudonym(page, _kind(dataset, name), value, pseudonymiser)
            if pseudonym is not None:
                got[name] = pseudonym
    return got


def _pseudonym(
    page: ReceivedPage, kind: IdentifierKind | None, value: str, pseudonymiser: Pseudonymiser
) -> str | None:
    """Return the pseudonym that the recipient got for `value`; None if it got none, or its key is gone."""
    if kind is None:
        return None
    try:
        domain = pseudonymiser.as_released(page.consumer, page.purpose, page.key_epoch)
        return domain.pseudonymise(kind, value)
    except (IdentifierError, KeyEpochError):
        return None


def _kind(dataset: Dataset, name: str) -> IdentifierKind | None:
    identifier = dataset.fields[name].identifier
    return None if identifier is None else identifier_kind(identifier)


def _canonical(kind: IdentifierKind | None, text: str) -> str:
    if kind is None:
        return text
    try:
        return kind.normalise(text)
    except IdentifierError:
        # Providers hold such values too, and their records are named by the text as it is.
        return text
