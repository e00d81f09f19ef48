"""What a member signs to say where its notices are sent."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

import msgspec

from gateway.clock import parse_rfc3339, rfc3339
from gateway.errors import GatewayError, Reason
from gateway.evidence import dsse
from gateway.evidence.canonical import DECODE_ERRORS, encode_canonical
from gateway.evidence.keys import SigningKey, VerifyKey
from gateway.usage.address import parse_target
from gateway.usage.store import Webhook

WEBHOOK_TYPE: Final = dsse.payload_type("webhook")
MAX_AGE: Final = timedelta(minutes=5)


class WebhookSetting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The signed payload."""

    v: int
    audience: str
    """The gateway's log."""
    member: str
    url: str
    """Empty: send nothing any more."""
    time: str
    """RFC 3339, when it was signed."""


def sign_webhook(audience: str, member: str, url: str, key: SigningKey, now: datetime) -> dsse.Envelope:
    """Return the setting, signed by the member."""
    setting = WebhookSetting(v=1, audience=audience, member=member, url=url, time=rfc3339(now))
    return dsse.sign(encode_canonical(setting), WEBHOOK_TYPE, [key])


def open_webhook(
    envelope: dsse.Envelope, member: str, keys: Mapping[str, VerifyKey], audience: str, now: datetime
) -> Webhook:
    """Return what `member` has signed, or raise `GatewayError`.

    1. It is signed with a key registered for the member.
    2. It is for this gateway, of this member, and was signed in the last five minutes.
    3. The address is one that a webhook may have, by its form.
    """
    payload, _ = dsse.verify(envelope, WEBHOOK_TYPE, keys)  # 1
    try:
        setting = msgspec.json.decode(payload, type=WebhookSetting)
        moment = parse_rfc3339(setting.time)
    except (*DECODE_ERRORS, ValueError) as error:
        raise GatewayError(
            "The envelope does not hold a webhook setting.", reason=Reason.STATEMENT_MALFORMED
        ) from error
    if (setting.v, setting.member, setting.audience) != (1, member, audience):  # 2
        raise GatewayError(
            "The webhook setting is for another gateway or another member.", reason=Reason.STATEMENT_AUDIENCE
        )
    if abs(now - moment) > MAX_AGE:
        raise GatewayError(
            "The webhook setting was signed too long ago, or the clocks differ; sign it anew.",
            reason=Reason.STATEMENT_STALE,
        )
    if setting.url:
        parse_target(setting.url)  # 3
    return Webhook(setting.url, moment)
