"""What every store of usage must do, whichever engine it is: the classes that test one inherit it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from gateway.usage.notice import Finding, NoticeKind
from gateway.usage.store import KEPT_FOR, MAX_WAITING, Webhook

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LEASE = timedelta(minutes=2)
URL = "https://hooks.example.org/x"


def finding(key: str) -> Finding:
    return Finding(key=key, kind=NoticeKind.FIRST_USE, consumer="harbour-bank", detail={"day": "2026-11-22"})


class UsageStoreContract:
    """Tests over the fixture `store`."""

    def test_a_finding_is_kept_once(self, store):
        (kept,) = store.add("amber", [finding("a"), finding("a")], NOW)
        assert kept.finding == finding("a")
        assert store.add("amber", [finding("a")], NOW) == []
        assert store.notices("amber", 0, 10) == [kept]

    def test_members_have_notices_of_their_own(self, store):
        store.add("amber", [finding("a")], NOW)
        assert len(store.add("birch", [finding("a")], NOW)) == 1
        assert [kept.member for kept in store.notices("birch", 0, 10)] == ["birch"]

    def test_notices_are_listed_in_order_and_in_pages(self, store):
        made = store.add("amber", [finding(str(number)) for number in range(5)], NOW)
        assert store.notices("amber", 0, 2) == made[:2]
        assert store.notices("amber", made[1].id, 10) == made[2:]

    def test_old_notices_are_forgotten(self, store):
        store.add("amber", [finding("old")], NOW - KEPT_FOR - timedelta(seconds=1))
        (new,) = store.add("amber", [finding("new")], NOW)
        assert store.notices("amber", 0, 10) == [new]

    def test_an_older_webhook_does_not_take_the_place_of_a_newer(self, store):
        newer, older = Webhook(URL, NOW), Webhook("https://old.example.org/", NOW - timedelta(seconds=1))
        assert store.webhook("amber") is None
        assert store.set_webhook("amber", newer)
        assert not store.set_webhook("amber", older)
        assert not store.set_webhook("amber", newer)
        assert store.webhook("amber") == newer

    def test_deliveries_are_claimed_by_one_at_a_time(self, store):
        store.set_webhook("amber", Webhook(URL, NOW))
        (kept,) = store.add("amber", [finding("a")], NOW)
        (delivery,) = store.claim(NOW, LEASE, 10)
        assert (delivery.notice, delivery.url, delivery.attempts) == (kept, URL, 0)
        assert store.claim(NOW, LEASE, 10) == []
        assert len(store.claim(NOW + LEASE, LEASE, 10)) == 1

    def test_what_is_put_off_comes_back_with_its_attempts(self, store):
        store.set_webhook("amber", Webhook(URL, NOW))
        (kept,) = store.add("amber", [finding("a")], NOW)
        store.put_off(kept.id, NOW + timedelta(hours=1))
        assert store.claim(NOW, LEASE, 10) == []
        (delivery,) = store.claim(NOW + timedelta(hours=1), LEASE, 10)
        assert delivery.attempts == 1
        store.delivered(kept.id)
        assert store.claim(NOW + timedelta(days=1), LEASE, 10) == []

    def test_without_a_webhook_nothing_waits(self, store):
        store.add("amber", [finding("a")], NOW)
        assert store.claim(NOW, LEASE, 10) == []

    def test_a_webhook_that_is_taken_away_takes_its_deliveries_along(self, store):
        store.set_webhook("amber", Webhook(URL, NOW))
        store.add("amber", [finding("a")], NOW)
        store.set_webhook("amber", Webhook("", NOW + timedelta(seconds=1)))
        store.add("amber", [finding("b")], NOW)
        assert store.claim(NOW, LEASE, 10) == []

    def test_so_many_deliveries_wait_and_no_more(self, store):
        store.set_webhook("amber", Webhook(URL, NOW))
        made = store.add("amber", [finding(str(number)) for number in range(MAX_WAITING + 5)], NOW)
        assert len(made) == MAX_WAITING + 5
        assert len(store.claim(NOW, LEASE, 2 * MAX_WAITING)) == MAX_WAITING

    def test_a_statement_is_kept_as_it_was_issued_first(self, store):
        assert store.statement("amber", "2026-10") is None
        assert store.keep_statement("amber", "2026-10", b"first") == b"first"
        assert store.keep_statement("amber", "2026-10", b"second") == b"first"
        assert store.statement("amber", "2026-10") == b"first"
