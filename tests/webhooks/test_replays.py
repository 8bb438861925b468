"""The memory of calls: one in hand at a time, under a lease that never means done, in any cache or none."""

from __future__ import annotations

import threading
import time
from typing import Any
from unittest import mock

import pytest
from django.core.cache import caches
from django.test import Client, override_settings

from anymail.signals import tracking
from anymail.webhooks import replays
from anymail.webhooks.replays import BUSY, DONE, Claim, ReplayStore, process_replay_store, replay_store
from services import redis_url
from webhooks.caches import BrokenCache, CountingCache
from webhooks.calls import kinds, settings_of

KINDS = kinds()
DAY = 24 * 3600


LOCMEM = "django.core.cache.backends.locmem.LocMemCache"


@pytest.fixture
def cached(settings: Any) -> Any:
    """Sets the cache of WEBHOOK_CACHE."""

    def use(backend: str, **how: Any) -> None:
        settings.CACHES = {"default": {"BACKEND": LOCMEM}, "calls": {"BACKEND": backend, **how}}
        replays._cache_stores.clear()

    use(LOCMEM, LOCATION=str(time.monotonic()))
    yield use
    replays._cache_stores.clear()


@pytest.fixture(params=["process", "cache", pytest.param("redis", marks=pytest.mark.service)])
def store(request: pytest.FixtureRequest, cached: Any) -> ReplayStore:
    if request.param == "process":
        return ReplayStore()
    if request.param == "redis":
        cached("django.core.cache.backends.redis.RedisCache", LOCATION=redis_url(), KEY_PREFIX=str(time.time()))
    return replay_store("calls")


def claimed(store: ReplayStore, key: str = "key") -> Claim:
    claim = store.claim(key, DAY)
    assert isinstance(claim, Claim)
    return claim


class TestClaims:
    def test_one_has_a_call_in_hand(self, store: ReplayStore) -> None:
        claim = claimed(store)
        assert store.claim("key", DAY) is BUSY
        claim.done()
        assert store.claim("key", DAY) is DONE
        claimed(store, "another").done()

    def test_what_is_released_is_taken_up_where_it_was_left(self, store: ReplayStore) -> None:
        claim = claimed(store)
        claim.note(0)
        claim.note(20_000)
        claim.release()
        again = claimed(store)
        assert again.handled == {0, 20_000}
        assert store.claim("key", DAY) is BUSY
        again.note(10_000)
        again.release()
        assert claimed(store).handled == {0, 10_000, 20_000}

    def test_what_is_forgotten_is_new(self, store: ReplayStore) -> None:
        claim = claimed(store)
        claim.note(0)
        claim.forget()
        assert claimed(store).handled == set()

    def test_ending_twice_means_nothing(self, store: ReplayStore) -> None:
        claim = claimed(store)
        claim.done()
        claim.release()
        assert store.claim("key", DAY) is DONE

    def test_one_of_many_takes_it(self, store: ReplayStore) -> None:
        claim = claimed(store)
        claim.note(0)
        claim.release()
        start = threading.Barrier(8)
        found: list[Any] = []

        def take() -> None:
            start.wait()
            found.append(store.claim("key", DAY))

        threads = [threading.Thread(target=take) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(isinstance(one, Claim) for one in found) == [False] * 7 + [True]

    def test_the_first_token_counts(self, store: ReplayStore) -> None:
        assert store.first("token", "a", DAY) == "a"
        assert store.first("token", "b", DAY) == "a"


class TestLeases:
    """Of processes that share a cache, one may be killed."""

    def test_it_runs_out(self, cached: Any) -> None:
        store = replay_store("calls")
        claim = claimed(store)
        claim.note(0)
        claim.sign_of_life()
        # It is killed.
        replays._heart.let_go(claim)
        with mock.patch("time.time", return_value=time.time() + replays.LEASE - 1):
            assert store.claim("key", DAY) is BUSY
        with mock.patch("time.time", return_value=time.time() + replays.LEASE + 1):
            assert claimed(store).handled == {0}
            assert store.claim("key", DAY) is BUSY

    def test_it_is_renewed_between_events(self, cached: Any) -> None:
        store = replay_store("calls")
        claim = claimed(store)
        now = time.time()
        with (
            mock.patch("time.time", return_value=now + 29),
            mock.patch("time.monotonic", return_value=time.monotonic() + 29),
        ):
            claim.sign_of_life()
        with mock.patch("time.time", return_value=now + 50):
            assert store.claim("key", DAY) is BUSY

    def test_it_is_renewed_while_a_receiver_takes_its_time(self, cached: Any, monkeypatch: Any) -> None:
        monkeypatch.setattr(replays, "_RENEWAL", 0.01)
        store = replay_store("calls")
        claim = claimed(store)
        noted = claim._noted
        for _ in range(100):
            if claim._noted > noted:
                break
            time.sleep(0.1)
        assert claim._noted > noted
        claim.done()

    def test_a_process_that_slept_through_it_takes_nothing_back(self, cached: Any) -> None:
        store = replay_store("calls")
        slept = claimed(store)
        replays._heart.let_go(slept)
        with mock.patch("time.time", return_value=time.time() + 60):
            other = claimed(store)
        with mock.patch("time.monotonic", return_value=time.monotonic() + 60):
            slept.release()
        assert store.claim("key", DAY) is BUSY
        other.done()
        with mock.patch("time.monotonic", return_value=time.monotonic() + 60):
            slept.forget()
        assert store.claim("key", DAY) is DONE

    def test_in_one_process_it_does_not_run_out(self) -> None:
        store = ReplayStore()
        claimed(store)
        with mock.patch("time.time", return_value=time.time() + 3600):
            assert store.claim("key", DAY) is BUSY


class TestDown:
    """The memory is a convenience: calls are handled without it."""

    @pytest.mark.parametrize("backend", ["BrokenCache", "SilentCache"])
    def test_the_process_remembers_instead(
        self, client: Client, cached: Any, events: list[Any], caplog: pytest.LogCaptureFixture, backend: str
    ) -> None:
        cached(f"webhooks.caches.{backend}")
        for name, kind in KINDS.items():
            events.clear()
            with override_settings(ANYMAIL={**settings_of(kind), "WEBHOOK_CACHE": "calls"}):
                call = kind.unlike(1, 3)
                assert [call.post(client).status_code for _ in range(2)] == [200, 200], name
            assert len(events) == (3 if kind.many else 1) * (1 if kind.signed else 2)
        assert caplog.text.count("WEBHOOK_CACHE does not work") == 1

    def test_it_is_left_alone_for_a_while(self, client: Client, cached: Any) -> None:
        cached("webhooks.caches.BrokenCache")
        kind = KINDS["postmark tracking"]
        BrokenCache.asked = 0
        with override_settings(ANYMAIL={**settings_of(kind), "WEBHOOK_CACHE": "calls"}):
            for number in range(20):
                assert kind.unlike(number).post(client).status_code == 200
        assert BrokenCache.asked == 1

    def test_it_fails_under_way(self, client: Client, cached: Any, events: list[Any]) -> None:
        kind = KINDS["sendgrid tracking"]
        cache = caches["calls"]

        def stop(**kwargs: Any) -> None:
            for name in ("add", "get", "set", "delete"):
                setattr(cache, name, mock.Mock(side_effect=OSError))

        tracking.connect(stop)
        try:
            with override_settings(ANYMAIL={**settings_of(kind), "WEBHOOK_CACHE": "calls"}):
                assert kind.unlike(1, 5).post(client).status_code == 200
        finally:
            tracking.disconnect(stop)
        assert len(events) == 5


class TestCost:
    @pytest.mark.parametrize(("items", "most"), [(1, 2), (3, 4), (500, 12)])
    def test_a_call_costs_a_few_operations(
        self, client: Client, cached: Any, events: list[Any], items: int, most: int
    ) -> None:
        cached("webhooks.caches.CountingCache")
        kind = KINDS["sendgrid tracking"]
        with override_settings(ANYMAIL={**settings_of(kind), "WEBHOOK_CACHE": "calls"}):
            call = kind.unlike(1, items)
            CountingCache.counted.clear()
            # Time is not what is counted here.
            with mock.patch.object(replays, "_PAUSE", 60):
                assert call.post(client).status_code == 200
            assert sum(CountingCache.counted.values()) <= most
            CountingCache.counted.clear()
            assert call.post(client).status_code == 200
            assert sum(CountingCache.counted.values()) <= 2
        assert len(events) == items


class TestView:
    @pytest.mark.parametrize("name", KINDS)
    def test_an_equal_call_in_hand_is_to_come_again(self, client: Client, events: list[Any], name: str) -> None:
        """With the status on which this ESP sends again; if the first one fails, that is when it is handled."""
        kind = KINDS[name]
        again: list[int] = []
        fail = [True]

        def receive(sender: Any, **kwargs: Any) -> None:
            if len(again) == 0:
                again.append(call.post(client).status_code)
            if fail:
                fail.pop()
                raise RuntimeError("the receiver failed")

        from anymail.signals import inbound

        client.raise_request_exception = False
        tracking.connect(receive)
        inbound.connect(receive)
        try:
            with override_settings(ANYMAIL=settings_of(kind)):
                call = kind.unlike(1)
                retry = 429 if name.startswith("brevo") else 500
                assert call.post(client).status_code == retry
                assert again == [retry]
                events.clear()
                assert call.post(client).status_code == 200
        finally:
            tracking.disconnect(receive)
            inbound.disconnect(receive)
        assert len(events) == 1

    @pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.signed])
    def test_equal_bodies_are_one_call_and_others_are_others(
        self, client: Client, events: list[Any], name: str
    ) -> None:
        kind = KINDS[name]
        with override_settings(ANYMAIL=settings_of(kind)), mock.patch("time.time", return_value=time.time()):
            one, other = kind.unlike(1), kind.unlike(2)
            assert [call.post(client).status_code for call in (one, other, one)] == [200, 200, 200]
        assert len(events) == 2

    def test_what_comes_again_is_numbered_as_before(self, client: Client, cached: Any) -> None:
        """Also where an item before it could not be read the first time."""
        from anymail.exceptions import AnymailAPIError

        kind = KINDS["brevo inbound"]
        seen: list[str] = []
        fetched: list[Any] = []

        def receive(event: Any, **kwargs: Any) -> None:
            seen.append(event.esp_event["storm"])

        from anymail.esps.brevo.inbound import BrevoInbound
        from anymail.signals import inbound

        read = BrevoInbound.read

        def unreliable(self: Any, item: Any) -> Any:
            if item["storm"] == "1-0" and not fetched:
                fetched.append(item)
                raise AnymailAPIError("not now", category="server")
            return (yield from read(self, item))

        client.raise_request_exception = False
        inbound.connect(receive)
        try:
            with override_settings(ANYMAIL=settings_of(kind)), mock.patch.object(BrevoInbound, "read", unreliable):
                call = kind.unlike(1, 3)
                assert call.post(client).status_code == 429
                assert seen == ["1-1", "1-2"]
                assert call.post(client).status_code == 200
        finally:
            inbound.disconnect(receive)
        assert seen == ["1-1", "1-2", "1-0"]


def test_clear_for_tests() -> None:
    claimed(process_replay_store).done()
    process_replay_store.clear()
    claimed(process_replay_store).done()
