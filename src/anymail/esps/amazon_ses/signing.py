"""What botocore does for us: credentials, endpoints and Signature Version 4. The calls are carried by our transport.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import os
import re
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, ClassVar, NamedTuple
from urllib.parse import urlsplit

from anymail.conf import Options, credential, mapping, option
from anymail.esps.kit.sending import ResponseReader
from anymail.exceptions import (
    AnymailAPIError,
    AnymailConfigurationError,
    AnymailImproperlyInstalled,
    AnymailNotSupportedWarning,
    Category,
)
from anymail.wire import Body, Request, Response

_CREDENTIALS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
_SESSION_PARAMS = {*_CREDENTIALS, "aws_account_id", "botocore_session", "profile_name", "region_name"}
_CLIENT_PARAMS = {*_CREDENTIALS, "aws_account_id", "api_version", "config", "endpoint_url", "region_name", "use_ssl"}
# What concerns the connection, which is not botocore's here.
_OURS = {"verify", "client_cert", "connect_timeout", "proxies", "proxies_config", "read_timeout", "retries"}


# Given for a client where it makes no calls, so that botocore looks for no others, nor holds any.
_NO_CREDENTIALS = {"aws_access_key_id": "-", "aws_secret_access_key": "-"}


class Params(dict[str, Any]):
    """Parameters for botocore. The credentials among them are ``Secret``s."""

    def __repr__(self) -> str:
        return f"Params({', '.join(map(str, self))})"

    @property
    def has_credentials(self) -> bool:
        return "aws_access_key_id" in self

    def without_credentials(self) -> Params:
        return Params({name: value for name, value in self.items() if name not in _CREDENTIALS})


def _session_params(value: Any) -> Params:
    return _known(mapping(value), _SESSION_PARAMS)


def _client_params(value: Any) -> Params:
    params = _known(mapping(value), _CLIENT_PARAMS | {"verify"})
    config = params.get("config")
    ours = _OURS & {*params, *(config if isinstance(config, Mapping) else ())}
    if ours:
        warnings.warn(
            f"{', '.join(sorted(ours))} in AMAZON_SES_CLIENT_PARAMS has no effect, since Anymail's own transport makes "
            "the calls: see REQUESTS_TIMEOUT, RETRIES, and the environment's SSL_CERT_FILE and HTTPS_PROXY.",
            AnymailNotSupportedWarning,
            stacklevel=2,
        )
    params.pop("verify", None)
    return params


def _known(params: dict[str, Any], names: set[str]) -> Params:
    if unknown := params.keys() - names:
        raise ValueError(f"it has no {', '.join(sorted(map(str, unknown)))}; what it may have: {sorted(names)}")
    made = Params(params)
    for name in _CREDENTIALS:
        # None and "" are what boto3 takes for absent.
        if made.get(name) in (None, ""):
            made.pop(name, None)
            continue
        try:
            made[name] = credential(made[name])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    lacking = [name for name in _CREDENTIALS[:2] if name not in made]
    if lacking and made.keys() & set(_CREDENTIALS):
        raise ValueError(f"{' and '.join(lacking)} is needed too (set to None or empty, perhaps?)")
    return made


@dataclasses.dataclass(frozen=True, kw_only=True)
class AWSOptions(Options):
    client_params: Params = option(
        "What boto3's clients take: `region_name`, credentials, `endpoint_url`, `use_ssl`, and `config` (a botocore "
        "`Config`, or a dict of what it takes). Without it, botocore looks in its usual places. What concerns the "
        "connection has no effect.",
        default=Params(),
        convert=_client_params,
    )
    session_params: Params = option(
        "What a boto3 `Session` takes: `profile_name`, `region_name`, credentials, `botocore_session`.",
        default=Params(),
        convert=_session_params,
    )


class Endpoint(NamedTuple):
    """Where a service is called, without a slash at the end, and the region to sign for ("*": all)."""

    url: str
    region: str


class AWS:
    """The credentials and endpoints of one configuration."""

    def __init__(
        self,
        options: AWSOptions,
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self.clock = clock
        self._options = options
        self._botocore = botocore_for(options)

    def endpoint(self, service: str, region: str | None = None) -> Endpoint:
        """The endpoint of a service, by its name in botocore. Raises AnymailConfigurationError without a region."""
        meta = self._botocore.client(service, region).meta
        return Endpoint(meta.endpoint_url.rstrip("/"), meta.region_name)

    def multi_region_endpoint(self, endpoint_id: str) -> Endpoint:
        """A global endpoint of SES: https://docs.aws.amazon.com/ses/latest/dg/global-endpoints.html"""
        meta = self._botocore.client("sesv2", None).meta
        with _configuration_errors():
            from botocore.endpoint_provider import EndpointProvider

            loader = self._botocore.session().get_component("data_loader")
            rules = loader.load_service_model("sesv2", "endpoint-rule-set-1")
            found = EndpointProvider(rules, loader.load_data("partitions")).resolve_endpoint(
                EndpointId=endpoint_id,
                Region=meta.region_name,
                UseDualStack=bool(meta.config.use_dualstack_endpoint),
                UseFIPS=bool(meta.config.use_fips_endpoint),
                Endpoint=self._options.client_params.get("endpoint_url"),
            )
        return Endpoint(found.url.rstrip("/"), "*")

    def object_url(self, bucket: str, key: str, region: str) -> str:
        """The URL of an object in S3."""
        client = self._botocore.client("s3", region)
        url: str = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key})
        return url

    def sign(self, request: Request, service: str, region: str) -> Request:
        """The request with the headers that authenticate it, for the body exactly as it is.

        Credentials are asked for each time, since those of a role expire. Raises AnymailAPIError without any.
        """
        if region == "*":
            _crt_signer()
        credentials = self._credentials()
        digest = sha256(request.body)
        headers = {**request.headers, "X-Amz-Date": self.clock().strftime("%Y%m%dT%H%M%SZ")}
        if credentials.token:
            headers["X-Amz-Security-Token"] = credentials.token
        if service == "s3" or region == "*":
            headers["X-Amz-Content-SHA256"] = digest
        if region == "*":
            headers = _signed_for_all_regions(request, headers, credentials, service)
        else:
            headers["Authorization"] = authorization(request, headers, digest, credentials, service, region)
        return dataclasses.replace(request, headers=headers)

    def _credentials(self) -> Credentials:
        """The credentials of this moment."""
        with _configuration_errors():
            from botocore.exceptions import BotoCoreError
        for params in (self._options.client_params, self._options.session_params):
            if params.has_credentials:
                return _static_credentials(params)
        try:
            found = self._botocore.credentials()
            if found is not None:
                return found
            why = "none are in AMAZON_SES_CLIENT_PARAMS, nor in any other place that botocore looks in"
        except BotoCoreError as error:
            why = str(error)
        raise AnymailAPIError(f"There are no AWS credentials: {why}.", category="auth")


class Credentials:
    """What a signer reads. No tuple, as botocore's are: what reports errors would show it."""

    __slots__ = ("access_key", "secret_key", "token")

    def __init__(self, access_key: str, secret_key: str, token: str | None) -> None:
        self.access_key = access_key
        self.secret_key = secret_key
        self.token = token


def _static_credentials(params: Params) -> Credentials:
    token = params.get("aws_session_token")
    return Credentials(
        params["aws_access_key_id"].reveal(), params["aws_secret_access_key"].reveal(), token and token.reveal()
    )


class Botocore:
    """A session of botocore's and its clients, which know where calls go and make none.

    They hold none of the credentials in the settings: 10 MB for each set of them would stay in memory, and those of
    a role change by the hour.
    """

    def __init__(self, session_params: Params, client_params: Params) -> None:
        self._session_params = session_params
        self._client_params = client_params
        self._lock = threading.RLock()
        self._session: Any = None
        self._clients: dict[tuple[str, str | None], Any] = {}

    def session(self) -> Any:
        with self._lock, _configuration_errors():
            if self._session is None:
                import botocore.session

                params = self._session_params
                session = params.get("botocore_session") or botocore.session.Session(profile=params.get("profile_name"))
                if params.get("region_name"):
                    session.set_config_variable("region", params["region_name"])
                if "botocore_session" not in params:
                    session.register_component("data_loader", _loader(session.get_config_variable("data_path")))
                self._session = session
            return self._session

    def credentials(self) -> Credentials | None:
        """The credentials of this moment that botocore finds, or None."""
        with self._lock:
            found = self.session().get_credentials()
        return Credentials(*found.get_frozen_credentials()[:3]) if found else None

    def client(self, service: str, region: str | None) -> Any:
        with self._lock:
            if (service, region) not in self._clients:
                self._clients[service, region] = self._make_client(service, region)
            return self._clients[service, region]

    def _make_client(self, service: str, region: str | None) -> Any:
        session = self.session()
        with _configuration_errors():
            import botocore
            from botocore.config import Config

            params = Params(self._client_params)
            config = params.pop("config", None)
            config = Config(**config) if isinstance(config, Mapping) else config or Config()
            if service == "s3":
                # Unsigned, its presigned URLs are plain ones.
                plain = Config(signature_version=botocore.UNSIGNED, s3={"us_east_1_regional_endpoint": "regional"})
                config = config.merge(plain)
            if region is not None:
                params["region_name"] = region
            return session.create_client(service, config=config, **params, **_NO_CREDENTIALS)


@contextmanager
def _configuration_errors() -> Iterator[None]:
    """Raise AnymailConfigurationError for what botocore finds wrong with its parameters, or when it is missing."""
    try:
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise AnymailImproperlyInstalled("botocore", "amazon-ses") from None
    try:
        yield
    except (BotoCoreError, TypeError, ValueError) as error:
        raise AnymailConfigurationError(
            f"AMAZON_SES_CLIENT_PARAMS, AMAZON_SES_SESSION_PARAMS or AWS's own settings are wrong: {error}"
        ) from error


# Few projects have more than one or two; each holds some megabytes.
_MOST_BOTOCORES = 16
_botocores: OrderedDict[str, Botocore] = OrderedDict()
_botocores_lock = threading.Lock()


def botocore_for(options: AWSOptions) -> Botocore:
    """The ``Botocore`` of this process for what these options say beside the credentials."""
    session_params, client_params = options.session_params, options.client_params
    session_params, client_params = session_params.without_credentials(), client_params.without_credentials()
    key = repr((os.getpid(), sorted(session_params.items()), sorted(client_params.items())))
    with _botocores_lock:
        made = _botocores.setdefault(key, Botocore(session_params, client_params))
        _botocores.move_to_end(key)
        while len(_botocores) > _MOST_BOTOCORES:
            _botocores.popitem(last=False)
        return made


@lru_cache(maxsize=4)
def _loader(data_path: str | None) -> Any:
    """What reads botocore's data files and remembers them, for all sessions."""
    from botocore.loaders import create_loader

    return create_loader(data_path)


def sha256(body: Body) -> str:
    digest = hashlib.sha256()
    for chunk in (body,) if isinstance(body, bytes) else body:
        digest.update(chunk)
    return digest.hexdigest()


def authorization(
    request: Request, headers: Mapping[str, str], digest: str, credentials: Any, service: str, region: str
) -> str:
    """The Authorization header of a request whose other headers (``X-Amz-Date`` among them) are all signed.

    ``digest`` is the SHA-256 of its body; ``credentials`` have ``access_key`` and ``secret_key``.
    """
    from botocore.auth import S3SigV4Auth, SigV4Auth

    # S3 alone takes paths as they are, not encoded once more.
    auth = (S3SigV4Auth if service == "s3" else SigV4Auth)(credentials, service, region)
    to_sign = _SignedHeaders({name.lower(): value for name, value in headers.items()}, host=_host(request.url))
    auth.payload = lambda _: digest
    auth.headers_to_sign = lambda _: to_sign
    # All that botocore's signer reads; its own AWSRequest costs more than the signing.
    call = SimpleNamespace(
        method=request.method,
        url=request.url,
        params=None,
        headers=to_sign,
        context={"timestamp": headers["X-Amz-Date"]},
    )
    signature = auth.signature(auth.string_to_sign(call, auth.canonical_request(call)), call)
    return (
        f"AWS4-HMAC-SHA256 Credential={auth.scope(call)}, SignedHeaders={auth.signed_headers(to_sign)}, "
        f"Signature={signature}"
    )


class _SignedHeaders(dict[str, str]):
    """Headers as botocore's signer reads them: names in lower case."""

    def get_all(self, name: str) -> list[str]:
        return [self[name]]


def _host(url: str) -> str:
    """The Host header of a call."""
    parts = urlsplit(url)
    default = {"http": 80, "https": 443}.get(parts.scheme)
    return parts.hostname or "" if parts.port in (None, default) else f"{parts.hostname}:{parts.port}"


def _crt_signer() -> Any:
    try:
        from botocore.crt.auth import CrtSigV4AsymAuth
    except ImportError:
        raise AnymailConfigurationError(
            "Calls to an EndpointId are signed with SigV4A, for which botocore needs another package: "
            "pip install 'botocore[crt]'."
        ) from None
    return CrtSigV4AsymAuth


def _signed_for_all_regions(
    request: Request, headers: Mapping[str, str], credentials: Any, service: str
) -> dict[str, str]:
    """Signature Version 4A, which botocore leaves to AWS's C library."""
    from botocore.awsrequest import AWSRequest

    call = AWSRequest(request.method, request.url, headers=dict(headers))
    _crt_signer()(credentials, service, "*").add_auth(call)
    return {name: value for name, value in call.headers.items() if name.lower() != "host"}


# How AWS's services call it when the credentials may not do what they were to do.
_DENIED = ("AccessDenied", "AuthorizationError")


# https://docs.aws.amazon.com/ses/latest/APIReference-V2/CommonErrors.html, where the HTTP status does not tell.
_CATEGORIES: dict[str, Category] = {
    "UnrecognizedClientException": "auth",
    "InvalidClientTokenId": "auth",
    "InvalidSignatureException": "auth",
    "SignatureDoesNotMatch": "auth",
    "IncompleteSignature": "auth",
    "ExpiredToken": "auth",
    "ExpiredTokenException": "auth",
    "MissingAuthenticationToken": "auth",
    "MissingAuthenticationTokenException": "auth",
    "AccessDenied": "auth",
    "AccessDeniedException": "auth",
    # The account's state, which the next message would meet too.
    "AccountSuspendedException": "auth",
    "SendingPausedException": "auth",
    "LimitExceededException": "quota",
    "TooManyRequestsException": "rate_limit",
    "Throttling": "rate_limit",
    "ThrottlingException": "rate_limit",
}


class AWSAnswers(ResponseReader):
    """Reads the responses of SES; of another service, where ``name`` and ``permission`` say so."""

    name = "Amazon SES"
    #: What AWS allows or denies the credentials, where its own words do not say it.
    permission: ClassVar[str | None] = None
    # A 503 may have been accepted all the same.
    safe_to_repeat = frozenset({429})

    def api_error(self, response: Response) -> AnymailAPIError:
        error = super().api_error(response)
        if self.permission and any(word in str(error.args[0]) for word in _DENIED):
            error.args = (f"{error.args[0]} The credentials need the permission {self.permission}.",)
        return error

    def explain(self, response: Response) -> tuple[str, Category | None]:
        try:
            body = response.json()
        except (ValueError, RecursionError):
            body = dict(re.findall(r"<(Code|Message)>([^<]*)", response.text))
        body = body if isinstance(body, dict) else {}
        name = str(response.headers.get("x-amzn-errortype") or body.get("__type") or body.get("Code") or "")
        name = name.partition(":")[0].rpartition("#")[2]
        text = str(body.get("message") or body.get("Message") or response.text)
        if "quota exceeded" in text.lower():
            return f"{name}: {text}", "quota"
        return (f"{name}: {text}" if name else text), _CATEGORIES.get(name)


class SNSResponses(AWSAnswers):
    name = "Amazon SNS"
    permission = "sns:ConfirmSubscription"


class S3Responses(AWSAnswers):
    name = "Amazon S3"
    permission = "s3:GetObject"


class KMSResponses(AWSAnswers):
    name = "AWS KMS"
    permission = "kms:Decrypt"


def error_about(what: str, error: AnymailAPIError) -> AnymailAPIError:
    """The same error, begun with what it is about: a sentence."""
    return AnymailAPIError(
        f"{what} {error.args[0]}",
        category=error.category,
        retryable=error.retryable,
        retry_after=error.retry_after,
        response=error.response,
    )
