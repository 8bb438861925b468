"""System checks: what is wrong with a project's mail is said when it starts, not when a mail is lost."""

from __future__ import annotations

import dataclasses
import difflib
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

from django.conf import settings
from django.core import checks, mail
from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured
from django.urls import Resolver404, URLResolver, get_resolver
from django.utils.module_loading import import_string

from anymail.conf import Options, setting_names
from anymail.esps import REGISTRY, esp_class
from anymail.exceptions import (
    AnymailConfigurationError,
    AnymailError,
    AnymailInvalidAddress,
    AnymailNotSupportedWarning,
)
from anymail.mail.addresses import IdnaEncoder, parse_addresses
from anymail.mail.message import DEFAULTABLE, outgoing_mail
from anymail.mail.supports import check, fit

_TAG = "anymail"


@checks.register(_TAG)
def check_mailers(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Every mailer of Anymail's has all its options, and no other."""
    return [*_mailer_errors(), *_unknown_siblings()]


@checks.register(_TAG)
def check_settings(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """ANYMAIL holds no name that nobody reads."""
    anymail = getattr(settings, "ANYMAIL", {})
    if not isinstance(anymail, dict):
        return [checks.Error("The setting ANYMAIL must be a dict.", id="anymail.E002")]
    known = {name for options, prefix in _all_options() for name in setting_names(options, prefix)}
    # A common setting may be set for one ESP, too.
    common = {name for name, field in setting_names(_common(), "").items() if field.metadata["common"]}
    known |= {f"{prefix}_{name}" for prefix in _prefixes() for name in common}
    unread: list[CheckMessage] = [
        checks.Warning(f'ANYMAIL["{name}"] is read by nobody.', hint=_hint(name, known), id="anymail.W001")
        for name in anymail
        if name not in known
    ]
    return [*unread, *_defaults_without_effect(anymail), *_senders()]


def _defaults_without_effect(anymail: dict[str, Any]) -> Iterator[CheckMessage]:
    """Names in the send defaults that no message has, wherever they are set; and a None, which removes nothing."""
    places = {f'ANYMAIL["{name}"]': value for name, value in anymail.items() if name.endswith("SEND_DEFAULTS")}
    for prefix in ("", *(f"{one}_" for one in sorted(_prefixes()))):
        name = f"ANYMAIL_{prefix}SEND_DEFAULTS"
        places[name] = getattr(settings, name, None)
    for alias, one in (getattr(settings, "MAILERS", {}) if hasattr(mail, "mailers") else {}).items():
        options = one.get("OPTIONS") if isinstance(one, dict) else None
        if isinstance(options, dict):
            places[f'MAILERS[{alias!r}]["OPTIONS"]["send_defaults"]'] = options.get("send_defaults")
    for where, defaults in places.items():
        for name, value in defaults.items() if isinstance(defaults, dict) else ():
            if name not in DEFAULTABLE:
                hint = _hint(name, set(DEFAULTABLE), str)
                text = f'{where}["{name}"] is no attribute that can have a default.'
                yield checks.Warning(text, hint=hint, id="anymail.W005")
            elif value is None and name != "from_email":
                text = f'{where}["{name}"] is None, which has no effect: leave it out.'
                yield checks.Warning(text, id="anymail.W005")


def _senders() -> Iterator[CheckMessage]:
    """The addresses in Django's settings can be read, and each mailer's send defaults be sent."""
    encoders: dict[IdnaEncoder, None] = {}
    for alias, backend in _mailers():
        try:
            made = _make(alias, backend)
        except (ImproperlyConfigured, TypeError):
            continue  # check_mailers says so
        encoders[made.options.idna_encoder] = None
        if made.options.send_defaults:
            yield from _unsendable_defaults(alias, made)
    for name in ("DEFAULT_FROM_EMAIL", "SERVER_EMAIL"):
        for idna in encoders:
            try:
                empty = not parse_addresses(getattr(settings, name), f"The setting {name}", idna)
                text = f"The setting {name} is empty: give an address." if empty else None
            except (AnymailInvalidAddress, TypeError) as error:
                text = str(error)
            if text:
                yield checks.Error(text, id="anymail.E008")
                break


def _unsendable_defaults(alias: str | None, backend: Any) -> Iterator[CheckMessage]:
    where = f"The send defaults of MAILERS[{alias!r}]" if alias else f"The send defaults for {backend.esp.name}"
    # A message that asks for nothing itself.
    message = mail.EmailMessage(to=["recipient@example.com"])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AnymailNotSupportedWarning)
            one = outgoing_mail(message, defaults=backend.options.send_defaults, idna=backend.options.idna_encoder)
            one = fit(one, backend.esp.supports)
    except (AnymailError, TypeError) as error:
        yield checks.Error(f"{where} cannot be sent: {error}", id="anymail.E008")
        return
    if unsupported := ", ".join(each.what for each in check(one, backend.esp.supports)):
        effect = (
            "they have no effect" if backend.options.ignore_unsupported_features else "every message will be refused"
        )
        yield checks.Warning(
            f"{where} hold what {backend.esp.name} does not support, so that {effect}: {unsupported}.",
            id="anymail.W008",
        )


@checks.register(_TAG)
def check_webhooks(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Every routed webhook is protected, or closed; what handles repeated calls can."""
    from anymail.webhooks.base import AnymailWebhookView

    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    in_use = {backend.esp.slug for _, backend in _mailers()}
    found: list[CheckMessage] = []
    views: dict[Any, str] = {}
    try:
        for route, callback in _routes(get_resolver().url_patterns):
            view = getattr(callback, "view_class", None)
            if isinstance(view, type) and issubclass(view, AnymailWebhookView):
                views.setdefault(callback, route)
    except AnymailConfigurationError as error:
        return [checks.Error(str(error), id="anymail.E005")]
    except (ImproperlyConfigured, Resolver404):
        # Django has checks of its own for these.
        return []
    for callback, route in views.items():
        found += _webhook_messages(callback, route, in_use)
    return [*found, *_cache_messages(views)]


def _routes(patterns: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The route and view of everything that is routed."""
    for one in patterns:
        route = f"{prefix}{one.pattern}"
        if isinstance(one, URLResolver):
            yield from _routes(one.url_patterns, route)
        else:
            yield route, one.callback


def _webhook_messages(callback: Any, route: str, in_use: set[str]) -> Iterator[CheckMessage]:
    view = callback.view_class(**callback.view_initkwargs)
    cls = view.webhook_class
    # A project need not use the webhooks of every ESP, and what it routes by itself it uses.
    expected = cls.slug in in_use or not _is_ours(callback)
    try:
        webhook = view.webhook()
    except ImproperlyConfigured as error:
        if not getattr(error, "missing", False):
            yield checks.Error(f"The webhook at {route}: {error}", id="anymail.E003")
        elif expected:
            yield checks.Warning(f"The webhook at {route} is answered 404: {error}", id="anymail.W002")
        return
    if webhook.options.webhook_secret or webhook.signature_configured:
        return
    hint = f"Set ANYMAIL['WEBHOOK_SECRET'], and put it into the URL that is set at {cls.name}."
    allowed = webhook.options.webhook_allow_unverified
    if allowed is True or cls.slug in (allowed or ()):
        yield checks.Warning(f"Anyone can call the webhook at {route}.", hint=hint, id="anymail.W002")
    elif expected:
        text = f"The webhook at {route} is answered 404, since nothing would verify it."
        yield checks.Warning(text, hint=hint, id="anymail.W002")


def _is_ours(callback: Any) -> bool:
    """Whether a view is one of anymail.urls."""
    slug = callback.view_class.webhook_class.slug
    if slug not in REGISTRY:
        return False
    patterns = import_module(f"anymail.webhooks.{slug}").urlpatterns
    return any(pattern.callback is callback for pattern in patterns)


# Not shared by processes, or without an add() that only one of them can win.
_NO_SHARED_CACHES = ("locmem.LocMemCache", "filebased.FileBasedCache", "dummy.DummyCache")


def _cache_messages(views: Mapping[Any, str]) -> Iterator[CheckMessage]:
    """The caches of WEBHOOK_CACHE are there, and all processes share them."""
    for alias in sorted({alias for callback in views if (alias := _cache_alias(callback))}):
        if alias not in settings.CACHES:
            yield checks.Error(f"WEBHOOK_CACHE names {alias!r}, which is not in CACHES.", id="anymail.E006")
        elif str(settings.CACHES[alias].get("BACKEND")).endswith(_NO_SHARED_CACHES):
            text = f"WEBHOOK_CACHE names {alias!r}, a cache with which what is sent again may be handled again."
            hint = "Let it name one that all processes share and that adds atomically: Redis, Memcached or a database."
            yield checks.Warning(text, hint=hint, id="anymail.W006")


def _cache_alias(callback: Any) -> str | None:
    try:
        alias: str | None = callback.view_class(**callback.view_initkwargs).webhook().options.webhook_cache
    except ImproperlyConfigured:
        return None
    return alias


@checks.register(_TAG, deploy=True)
def check_deployment(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Nothing that is for development is left on in production."""
    found: list[CheckMessage] = []
    for alias, backend in _mailers():
        name = f"MAILERS[{alias!r}]" if alias else "EMAIL_BACKEND"
        if backend.__module__ in ("anymail.backends.console", "anymail.backends.test") and alias in (None, "default"):
            found.append(checks.Error(f"{name} sends no mail: {backend.__module__}.", id="anymail.E004"))
        try:
            made = _make(alias, backend)
        except (ImproperlyConfigured, TypeError) as error:
            if getattr(error, "missing", False):
                found.append(checks.Error(str(error), id="anymail.E007"))
            continue
        if made.options.debug_api_requests:
            text = f"{name} prints every message: turn DEBUG_API_REQUESTS off."
            found.append(checks.Warning(text, id="anymail.W003"))
    return found


def _mailers() -> Iterator[tuple[str | None, Any]]:
    """The alias and backend class of each mailer that is Anymail's."""
    from anymail.backends.base import AnymailBackend

    for alias, path in _paths().items():
        try:
            backend = import_string(path) if isinstance(path, str) else None
        except ImportError:
            continue
        if isinstance(backend, type) and issubclass(backend, AnymailBackend):
            yield alias, backend


def _paths() -> dict[str | None, Any]:
    """The path of each mailer's backend, by its alias; None is EMAIL_BACKEND's."""
    # Before Django 6.1 MAILERS means nothing.
    mailers = getattr(settings, "MAILERS", None) if hasattr(mail, "mailers") else None
    if mailers is not None:
        return {alias: one.get("BACKEND") for alias, one in mailers.items() if isinstance(one, dict)}
    with warnings.catch_warnings():
        # Django warns of its old settings itself; it need not blame this reading of them.
        warnings.simplefilter("ignore")
        return {None: settings.EMAIL_BACKEND}


def _make(alias: str | None, backend: Any) -> Any:
    """The backend as Django makes it. Raises ImproperlyConfigured, or TypeError for OPTIONS that are no dict."""
    return backend() if alias is None else vars(mail)["mailers"][alias]


def _mailer_errors() -> Iterator[CheckMessage]:
    backends = {f"anymail.backends.{slug}.EmailBackend" for slug in (*REGISTRY, "console", "sendinblue", "test")}
    for path in _paths().values():
        if isinstance(path, str) and path.startswith("anymail.") and path not in backends:
            hint = _hint(path, backends, str)
            yield checks.Error(f"There is no backend {path!r}.", hint=hint, id="anymail.E001")
    for alias, backend in _mailers():
        try:
            _make(alias, backend)
        except (ImproperlyConfigured, TypeError) as error:
            yield _configuration_message(str(error), error, "anymail.E001")


def _configuration_message(text: str, error: Exception, error_id: str) -> CheckMessage:
    """An error for what is wrong; a warning for what is absent, as keys are where a project is built or tested.

    Every command runs the checks, and an error stops it: makemigrations needs no keys. Deployment does.
    """
    if getattr(error, "missing", False):
        hint = "It may be absent where no mail is sent; check --deploy takes it for an error."
        return checks.Warning(text, hint=hint, id="anymail.W007")
    return checks.Error(text, id=error_id)


def _unknown_siblings() -> Iterator[CheckMessage]:
    """Django ignores a misspelt OPTIONS."""
    for alias, one in (getattr(settings, "MAILERS", {}) if hasattr(mail, "mailers") else {}).items():
        for name in one if isinstance(one, dict) else ():
            if name not in ("BACKEND", "OPTIONS"):
                hint = _hint(name, {"BACKEND", "OPTIONS"})
                yield checks.Warning(f"MAILERS[{alias!r}][{name!r}] is read by nobody.", hint=hint, id="anymail.W004")


def _hint(name: str, known: set[str], spelling: Callable[[str], str] = str.upper) -> str | None:
    near = difflib.get_close_matches(spelling(name), known, n=1, cutoff=0.5)
    return f"Did you mean {near[0]!r}?" if near else None


def _all_options() -> Iterator[tuple[type[Options], str]]:
    """Every options class, with the prefix of its settings."""
    for slug in REGISTRY:
        esp = esp_class(slug)
        for prefix in esp.prefixes or (slug.upper(),):
            yield esp.Options, prefix
            for pattern in import_module(f"anymail.webhooks.{slug}").urlpatterns:
                yield pattern.callback.view_class.webhook_class.Options, prefix


def _common() -> type[Options]:
    from anymail.conf import SendOptions, WebhookOptions

    return dataclasses.make_dataclass("Common", [], bases=(SendOptions, WebhookOptions), frozen=True, kw_only=True)


def _prefixes() -> set[str]:
    return {prefix for slug in REGISTRY for prefix in (esp_class(slug).prefixes or (slug.upper(),))}
