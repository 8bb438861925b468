"""The one view that serves every ESP: authenticate, read, dispatch event by event."""

from __future__ import annotations

import hashlib
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.core.signals import got_request_exception, setting_changed
from django.db import connections, transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, RawPostDataException
from django.http.multipartparser import MultiPartParserError
from django.urls import URLPattern, path
from django.utils.decorators import method_decorator
from django.utils.functional import classproperty
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from anymail.conf import Given, Secret, SendOptions, WebhookOptions, load, max_age
from anymail.delivery.calls import Caller
from anymail.esps.kit.webhook import (
    Event,
    Events,
    NotConfigured,
    Webhook,
    any_secret,
    basic_auth,
    constant_time_equal,
    header,
)
from anymail.exceptions import (
    AnymailAPIError,
    AnymailConfigurationError,
    AnymailError,
    AnymailInsecureWebhookWarning,
    AnymailWebhookValidationFailure,
)
from anymail.signals import AnymailInboundEvent, inbound, tracking
from anymail.webhooks.bodies import BodyLost, BodyTooLarge, identity, read_body
from anymail.webhooks.replays import DONE, Claim, replay_store

__all__ = ["AnymailWebhookView", "webhook_path"]

logger = logging.getLogger("anymail.webhooks")

# How long a handled call is remembered, at least: longer than any ESP goes on sending it again.
_MEMORY_SECONDS = 24 * 3600
_UNSET: Any = object()
# What Django answers with an error of the client's, on which no ESP tries again.
_NO_RETRY = (BadRequest, Http404, MultiPartParserError, PermissionDenied, SuspiciousOperation)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an event was not handled: an exception, and in words whose it is."""

    error: Exception
    what: str


class _Undo(Exception):
    """Takes back what receivers wrote of an event that one of them failed on."""


class _EveryDatabase(set[str]):
    """The aliases of all databases, whichever those are."""

    def __contains__(self, alias: object) -> bool:
        return True


class _InHand(Exception):
    """An equal call is being handled elsewhere. It may yet fail: this one is to come again."""


@method_decorator([csrf_exempt, login_not_required], name="dispatch")
class AnymailWebhookView(View):
    """Receives an ESP's webhook calls and sends them on as signals, of which its class is the ``sender``.

    Keywords of ``as_view`` are the webhook's options, in lower case.
    """

    webhook_class: ClassVar[type[Webhook[Any]]]
    http_method_names = ["post", "head", "options"]  # noqa: RUF012

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # as_view() takes only the names of class attributes.
        cls._option_names = tuple(
            name for field in fields(cls.webhook_class.Options) for name in (field.name, *field.metadata["aliases"])
        )
        for name in cls._option_names:
            if not hasattr(cls, name):
                setattr(cls, name, _UNSET)

    _option_names: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def as_view(cls, **options: Any) -> Callable[..., HttpResponseBase]:
        """The view with these options, which Django keeps among the local variables of every call.

        Each event has a transaction of its own: one around the call would undo what was handled.
        """
        hidden = {name: Given({name: value}) for name, value in options.items()}
        del options
        view = super().as_view(**hidden)
        # What transaction.non_atomic_requests() sets, database by database; some are there only later.
        vars(view)["_non_atomic_requests"] = _EveryDatabase()
        return view

    def __init__(self, **options: Any) -> None:
        super().__init__()
        given: dict[str, Any] = {}
        for name, value in options.items():
            given.update(value.reveal() if isinstance(value, Given) else {name: value})
        self._given = Given(given)

    @classproperty
    def esp_name(cls) -> str:
        """The ESP's name, as signals carry it."""
        return cls.webhook_class.name

    def webhook(self) -> Webhook[Any]:
        """The webhook with its options. Raises AnymailConfigurationError."""
        cls = self.webhook_class
        return cls(load(cls.Options, cls.prefixes or (cls.slug.upper(),), self._own_options()))

    def _own_options(self) -> Given:
        """The options that the class or ``as_view`` was given."""
        own = {name: value for name in self._option_names if (value := getattr(self, name)) is not _UNSET}
        return Given({**own, **self._given.reveal()})

    def head(self, request: HttpRequest) -> HttpResponse:
        """ESPs probe a URL before they use it."""
        return HttpResponse()

    def post(self, request: HttpRequest) -> HttpResponse:
        try:
            webhook = self._configured(request)
            if webhook.awaits_challenge and webhook.options.webhook_secret and not header(request, "Authorization"):
                challenge = _plain(401, "Unauthorized.")
                challenge["WWW-Authenticate"] = 'Basic realm="Anymail webhooks"'
                return challenge
            self._authenticate(webhook, request)
            limit = webhook.options.inbound_max_size if webhook.receives_mail else settings.DATA_UPLOAD_MAX_MEMORY_SIZE
            read_body(request, limit)
            failures = self._handle(webhook, request)
        except NotConfigured as error:
            return self._not_found(request, error)
        except AnymailConfigurationError as error:
            failures = [Failure(error, f"The webhooks of {self.esp_name} are set up wrong.")]
        except _InHand:
            self._log(logging.INFO, request, "is in hand already, and is to come again if that fails")
            return self._again()
        except BodyLost as error:
            self._log(logging.ERROR, request, f"cannot be read: {error}")
            return self._again()
        except BodyTooLarge:
            setting = "INBOUND_MAX_SIZE" if webhook.receives_mail else "DATA_UPLOAD_MAX_MEMORY_SIZE"
            self._log(logging.ERROR, request, f"is larger than {setting}: raise that setting, or what it holds is lost")
            return _plain(webhook.too_large_status, "Too large.")
        except AnymailWebhookValidationFailure as error:
            self._log(logging.WARNING, request, f"was refused: {error}")
            return _plain(400, "Bad request.")
        except (SuspiciousOperation, MultiPartParserError, RawPostDataException) as error:
            self._log(logging.WARNING, request, f"cannot be read: {type(error).__name__}")
            return _plain(400, "Bad request.")
        return self._failed(request, failures[0]) if failures else HttpResponse()

    def _again(self) -> HttpResponse:
        return _plain(self.webhook_class.retry_status, "Try again later.")

    def _failed(self, request: HttpRequest, first: Failure) -> HttpResponse:
        """What is answered where something failed: the status on which this ESP sends again."""
        if self.webhook_class.retry_status == 500 and not isinstance(first.error, _NO_RETRY):
            raise first.error
        try:
            raise first.error
        except Exception:
            # What reports errors reads the one that is being handled.
            logger.exception("%s", first.what)
            got_request_exception.send(type(self), request=request)
        return self._again()

    def _not_found(self, request: HttpRequest, error: NotConfigured) -> HttpResponse:
        if _rarely((type(self), request.path)):
            text = f"was answered 404. {error} To be rid of such calls, leave {self.webhook_class.slug!r} out of"
            self._log(logging.WARNING, request, f"{text} WEBHOOK_ESPS")
        return _plain(404, "Not found.")

    def _log(self, level: int, request: HttpRequest, what: str) -> None:
        what = f"{self._an_esp()} webhook call to {request.path} {what.removesuffix('.')}."
        logger.log(level, "%s", what[0].upper() + what[1:])

    @classmethod
    def _an_esp(cls) -> str:
        return f"{'an' if cls.esp_name[0] in 'AEIO' else 'a'} {cls.esp_name}"

    def _configured(self, request: HttpRequest) -> Webhook[Any]:
        """The webhook, if it is one that is to be answered. Raises NotConfigured, AnymailConfigurationError.

        Where a needed setting is missing, only a caller who knows WEBHOOK_SECRET sees an error of ours; of what is
        wrong it is told anew, since the frames in which settings were read are no business of error reporting.
        """
        wrong, missing = "", False
        try:
            webhook = self._kept_webhook()
        except AnymailConfigurationError as error:
            wrong, missing = str(error), error.missing
        if missing and not self._knows_secret(request):
            raise NotConfigured(wrong)
        if wrong:
            raise AnymailConfigurationError(wrong)
        options = webhook.options
        if not (options.webhook_secret or webhook.signature_configured):
            allowed = options.webhook_allow_unverified
            if allowed is not True and webhook.slug not in (allowed or ()):
                raise NotConfigured(
                    f"Set WEBHOOK_SECRET and put it into the URL that is set at {webhook.name}, or set the key with "
                    "which it signs, or name it in WEBHOOK_ALLOW_UNVERIFIED to take calls from anyone."
                )
        return webhook

    def _knows_secret(self, request: HttpRequest) -> bool:
        given, cls = basic_auth(request), self.webhook_class
        own = self._own_options().only(lambda name: name in ("webhook_secret", "basic_auth"))
        secrets = load(WebhookOptions, cls.prefixes or (cls.slug.upper(),), own).webhook_secret
        return given is not None and any_secret(secrets, lambda secret: constant_time_equal(given, secret))

    def _kept_webhook(self) -> Webhook[Any]:
        """``webhook``, made again only where settings changed."""
        if self._given.names():
            return self.webhook()
        kept = _webhooks.get(type(self))
        if kept is not None and kept[0].reveal() == (getattr(settings, "ANYMAIL", None) or {}):
            return kept[1]
        webhook = self.webhook()
        _webhooks[type(self)] = (Given(getattr(settings, "ANYMAIL", None) or {}), webhook)
        return webhook

    def _authenticate(self, webhook: Webhook[Any], request: HttpRequest) -> None:
        secrets: tuple[Secret, ...] = webhook.options.webhook_secret
        if secrets:
            given = basic_auth(request)
            if given is None or not any_secret(secrets, lambda secret: constant_time_equal(given, secret)):
                raise AnymailWebhookValidationFailure(
                    "its basic auth is missing or wrong. Compare the URL set at the ESP with WEBHOOK_SECRET."
                )
        elif not webhook.signature_configured:
            warnings.warn(
                f"Anyone can call Anymail's {self.esp_name} webhooks: set WEBHOOK_SECRET, and put it into the URL "
                "that is set at the ESP.",
                AnymailInsecureWebhookWarning,
                stacklevel=2,
            )

    def _handle(self, webhook: Webhook[Any], request: HttpRequest) -> list[Failure]:
        """Send every event of a call as a signal; return what failed. Raises _InHand."""
        try:
            token = webhook.verify(request)
        except NotConfigured as error:
            if webhook.options.webhook_secret:
                # The caller is known.
                raise AnymailConfigurationError(str(error)) from None
            raise
        except AnymailAPIError as error:
            error.sending = False
            return [Failure(error, f"It cannot be verified yet that {self._an_esp()} webhook call is authentic.")]
        store = replay_store(webhook.options.webhook_cache)
        call = identity(request, webhook.call_id(request))
        keep = int(max(_MEMORY_SECONDS, 2 * (max_age(webhook.options, webhook.default_max_age) or 0)))
        if token is not None:
            used = hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
            if store.first(f"{webhook.slug}:token:{used}", call, keep) != call:
                raise AnymailWebhookValidationFailure("its signature was used before, with another body.")
        claim = store.claim(f"{webhook.slug}:{call}", keep)
        if claim is DONE:
            return []
        if not isinstance(claim, Claim):
            raise _InHand
        try:
            failures = self._dispatch(webhook, request, claim)
        except BaseException:
            # Also where the server ends this process, say for a timeout: the rest of the call is to come again.
            claim.release()
            raise
        if failures:
            claim.release()
        elif webhook.signature_configured:
            claim.done()
        else:
            # Without a signature an equal call may be a new one: only the rest of a half-handled one is remembered.
            claim.forget()
        return failures

    def _dispatch(self, webhook: Webhook[Any], request: HttpRequest, claim: Claim) -> list[Failure]:
        failures: list[Failure] = []
        emit = self._emitter()
        for number, event in self._events(webhook, request, claim, failures):
            if number in claim.handled:
                continue
            claim.sign_of_life()
            failed = emit(event)
            if failed:
                failures.extend(failed)
            else:
                claim.note(number)
        return failures

    def _events(
        self, webhook: Webhook[Any], request: HttpRequest, claim: Claim, failures: list[Failure]
    ) -> Iterator[tuple[int, Event]]:
        """Every event of a call, with a number that stays when it is sent again.

        What cannot be read costs the others nothing; alone it is a refused call.
        """
        unreadable: list[Exception] = []
        readable = 0
        asks = webhook.asks
        for index, item in enumerate(webhook.items(request)):
            try:
                if asks:
                    claim.sign_of_life()
                found = list(self._read(webhook, item) if asks else webhook.events(item))
            except AnymailWebhookValidationFailure as error:
                unreadable.append(error)
            except AnymailAPIError as error:
                error.sending = False
                what = f"What {self._an_esp()} webhook call tells of cannot be fetched from {webhook.name}'s API yet."
                failures.append(Failure(error, what))
            except (AnymailError, AnymailConfigurationError) as error:
                failures.append(Failure(error, f"An event in {self._an_esp()} webhook call cannot be handled yet."))
            except Exception as error:
                logger.error("An event in %s webhook call cannot be read.", self._an_esp(), exc_info=error)
                unreadable.append(error)
            else:
                readable += 1
                for place, event in enumerate(found):
                    yield index * _MOST_PER_ITEM + place, event
        if unreadable and not readable and not failures:
            raise AnymailWebhookValidationFailure("none of its events can be read.") from unreadable[0]

    def _read(self, webhook: Webhook[Any], item: Any) -> Events:
        options = load(SendOptions, webhook.prefixes or (webhook.slug.upper(),), {})
        return Caller.of_a_webhook(webhook, options).run(webhook.read(item))[0]

    def _emitter(self) -> Callable[[Event], list[Failure]]:
        """What sends an event as a signal and returns what receivers raised.

        Where the project's databases have ATOMIC_REQUESTS, what they wrote of an event is committed before the next,
        and undone if one of them fails.
        """
        sender, esp_name = type(self), self.esp_name

        def emit(event: Event) -> list[Failure]:
            signal = inbound if isinstance(event, AnymailInboundEvent) else tracking
            responses = signal.send_robust(sender, event=event, esp_name=esp_name)
            return [
                Failure(response, f"A receiver of {self._an_esp()} webhook failed.")
                for _, response in responses
                if isinstance(response, Exception)
            ]

        atomic = [alias for alias in connections if connections.settings[alias].get("ATOMIC_REQUESTS")]
        if not atomic:
            return emit

        def emit_atomically(event: Event) -> list[Failure]:
            failures: list[Failure] = []
            try:
                with ExitStack() as stack:
                    for alias in atomic:
                        stack.enter_context(transaction.atomic(using=alias))
                    failures = emit(event)
                    if failures:
                        raise _Undo
            except _Undo:
                pass
            except Exception as error:
                failures = [Failure(error, f"What receivers of {self._an_esp()} webhook wrote was not committed.")]
            return failures

        return emit_atomically


def webhook_path(view: type[AnymailWebhookView], kind: str) -> URLPattern:
    """The route of a view: ``<esp>/<kind>/``, named ``<esp>_<kind>_webhook``."""
    slug = view.webhook_class.slug
    return path(f"{slug}/{kind}/", view.as_view(), name=f"{slug}_{kind}_webhook")


def _plain(status: int, text: str) -> HttpResponse:
    response = HttpResponse(text, status=status, content_type="text/plain; charset=utf-8")
    # It was logged here: Django would mail each 500 to the ADMINS.
    response._has_been_logged = True  # type: ignore[attr-defined]
    return response


def _rarely(key: object) -> bool:
    """Whether it is long enough since this was asked for the same key."""
    now = time.monotonic()
    if now - _asked.get(key, -_PAUSE) < _PAUSE:
        return False
    if len(_asked) > 1000:
        _asked.clear()
    _asked[key] = now
    return True


_PAUSE = 600.0
_asked: dict[object, float] = {}

# More than the events of one item: SES tells of up to 50 recipients at a time.
_MOST_PER_ITEM = 10_000

# By view class: the settings, and the webhook that was made with them.
_webhooks: dict[type[AnymailWebhookView], tuple[Given, Webhook[Any]]] = {}
setting_changed.connect(lambda **_: _webhooks.clear(), weak=False)
