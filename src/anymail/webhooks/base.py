"""The one view that serves every ESP: authenticate, read, dispatch event by event."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Iterator
from dataclasses import fields
from secrets import token_hex
from typing import Any, ClassVar

from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import BadRequest, PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.core.signals import got_request_exception
from django.http import Http404, HttpRequest, HttpResponse, RawPostDataException
from django.http.multipartparser import MultiPartParserError
from django.urls import URLPattern, path
from django.utils.decorators import method_decorator
from django.utils.functional import classproperty
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from anymail.conf import Secret, SendOptions, load
from anymail.delivery.calls import Caller
from anymail.esps.kit.webhook import Event, Events, Webhook, any_secret, basic_auth, constant_time_equal
from anymail.exceptions import (
    AnymailAPIError,
    AnymailConfigurationError,
    AnymailError,
    AnymailInsecureWebhookWarning,
    AnymailWebhookValidationFailure,
)
from anymail.signals import AnymailInboundEvent, inbound, tracking
from anymail.webhooks.replays import replay_store

__all__ = ["AnymailWebhookView", "webhook_path"]

logger = logging.getLogger("anymail.webhooks")

# How long a handled call is remembered: longer than any ESP goes on sending it again.
_MEMORY_SECONDS = 24 * 3600
# How long a call that is being handled keeps an equal one away: a process that was killed meanwhile blocks no longer.
_LEASE_SECONDS = 600
_UNSET: Any = object()
# What Django answers with an error of the client's, on which no ESP tries again.
_NO_RETRY = (BadRequest, Http404, MultiPartParserError, PermissionDenied, SuspiciousOperation)


def _plain(status: int, text: str) -> HttpResponse:
    return HttpResponse(text, status=status, content_type="text/plain; charset=utf-8")


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
        for field in fields(cls.webhook_class.Options):
            for name in (field.name, *field.metadata["aliases"]):
                if not hasattr(cls, name):
                    setattr(cls, name, _UNSET)

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self._given = options

    @classproperty
    def esp_name(cls) -> str:
        """The ESP's name, as signals carry it."""
        return cls.webhook_class.name

    def webhook(self) -> Webhook[Any]:
        """The webhook with its options. Raises AnymailConfigurationError."""
        cls = self.webhook_class
        names = [name for field in fields(cls.Options) for name in (field.name, *field.metadata["aliases"])]
        own = {name: getattr(self, name) for name in names if getattr(self, name) is not _UNSET}
        return cls(load(cls.Options, cls.prefixes or (cls.slug.upper(),), {**own, **self._given}))

    def head(self, request: HttpRequest) -> HttpResponse:
        """ESPs probe a URL before they use it."""
        return HttpResponse()

    def post(self, request: HttpRequest) -> HttpResponse:
        webhook = self.webhook()
        try:
            _check_charset(request)
            if webhook.awaits_challenge and webhook.options.webhook_secret and "Authorization" not in request.headers:
                challenge = _plain(401, "Unauthorized.")
                challenge["WWW-Authenticate"] = 'Basic realm="Anymail webhooks"'
                return challenge
            self._authenticate(webhook, request)
            errors = self._handle(webhook, request, webhook.verify(request))
        except RequestDataTooBig:
            logger.error(
                "A %s webhook call was refused because it is larger than DATA_UPLOAD_MAX_MEMORY_SIZE: raise that "
                "setting, or large messages are lost.", self.esp_name,
            )  # fmt: skip
            return _plain(webhook.too_large_status, "Too large.")
        except AnymailWebhookValidationFailure as error:
            logger.warning("A %s webhook call to %s was refused: %s", self.esp_name, request.path, error)
            return _plain(400, "Bad request.")
        except (SuspiciousOperation, MultiPartParserError, RawPostDataException) as error:
            logger.warning("A %s webhook call cannot be read: %s", self.esp_name, type(error).__name__)
            return _plain(400, "Bad request.")
        if not errors:
            return HttpResponse()
        if webhook.retry_status == 500 and not isinstance(errors[0], _NO_RETRY):
            raise errors[0]
        try:
            raise errors[0]
        except Exception:
            # What reports errors reads the one that is being handled.
            logger.exception("A receiver of a %s webhook failed.", self.esp_name)
            got_request_exception.send(type(self), request=request)
        return _plain(webhook.retry_status, "Try again later.")

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

    def _handle(self, webhook: Webhook[Any], request: HttpRequest, token: str | None) -> list[Exception]:
        """Send every event of a call as a signal; return what the receivers raised."""
        memory = replay_store(webhook.options.webhook_cache)
        digest = f"{webhook.slug}:{_digest(request)}"
        if token is not None:
            first = memory.claim(f"{webhook.slug}:token:{_sha256(token)}", digest, _MEMORY_SECONDS)
            if first != digest:
                raise AnymailWebhookValidationFailure("its signature was used before, with another body.")
        errors: list[Exception] = []
        handled: list[str] = []
        attempt = token_hex(16)
        for index, event in enumerate(self._events(webhook, request, errors)):
            key = f"{digest}:{index}"
            if memory.claim(key, attempt, _LEASE_SECONDS) != attempt:
                continue
            try:
                failed = self._send(event)
            except BaseException:
                # The server ends this process, say for a timeout: the call is to come again.
                memory.forget(key)
                raise
            if failed:
                memory.forget(key)
                errors.extend(failed)
            else:
                memory.keep(key, attempt, _MEMORY_SECONDS)
                handled.append(key)
        # Without a signature an equal call may be a new one: only the rest of a half-handled call is remembered.
        if not errors and not webhook.signature_configured:
            for key in handled:
                memory.forget(key)
        return errors

    def _events(self, webhook: Webhook[Any], request: HttpRequest, errors: list[Exception]) -> Iterator[Event]:
        """Every event of a call. What cannot be read costs the others nothing; alone it is a refused call."""
        unreadable: list[Exception] = []
        readable = 0
        for item in webhook.items(request):
            try:
                events = webhook.events(item)
                found = list(self._fetch(webhook, events) if webhook.fetches else events)
            except AnymailConfigurationError:
                raise
            except AnymailWebhookValidationFailure as error:
                unreadable.append(error)
            except AnymailAPIError as error:
                error.sending = False
                errors.append(error)
            except AnymailError as error:
                errors.append(error)
            except Exception as error:
                logger.error("An event in a %s webhook call cannot be read.", self.esp_name, exc_info=error)
                unreadable.append(error)
            else:
                readable += 1
                yield from found
        if unreadable and not readable and not errors:
            raise AnymailWebhookValidationFailure("none of its events can be read.") from unreadable[0]

    def _fetch(self, webhook: Webhook[Any], flow: Any) -> Events:
        options = load(SendOptions, webhook.prefixes or (webhook.slug.upper(),), {})
        events: Events = Caller.of_a_webhook(webhook, options).run(flow)[0]
        return events

    def _send(self, event: Event) -> list[Exception]:
        signal = inbound if isinstance(event, AnymailInboundEvent) else tracking
        answers = signal.send_robust(type(self), event=event, esp_name=self.esp_name)
        return [answer for _, answer in answers if isinstance(answer, Exception)]


def webhook_path(view: type[AnymailWebhookView], kind: str) -> URLPattern:
    """The route of a view: ``<esp>/<kind>/``, named ``<esp>_<kind>_webhook``."""
    slug = view.webhook_class.slug
    return path(f"{slug}/{kind}/", view.as_view(), name=f"{slug}_{kind}_webhook")


def _check_charset(request: HttpRequest) -> None:
    """Refuse a form in what Python has under a charset's name and is none, like "hex": Django fails on it."""
    try:
        b"x".decode(request.encoding or "utf-8", "replace")
    except (LookupError, UnicodeError):
        raise AnymailWebhookValidationFailure("its charset is none that text can have.") from None


def _digest(request: HttpRequest) -> str:
    """What tells one call from another: its body, of which large uploads are known by name and size."""
    if request.content_type == "multipart/form-data" and not hasattr(request, "_body"):
        files = [(name, file.name, file.size) for name, each in request.FILES.lists() for file in each]
        return _sha256(repr((sorted(request.POST.lists()), sorted(files, key=repr))))
    return hashlib.sha256(request.body).hexdigest()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
