"""What anymail_status says."""

import copy
import pickle

from anymail.exceptions import AnymailAPIError
from anymail.mail.addresses import EmailAddress
from anymail.mail.status import AnymailRecipientStatus, AnymailStatus, all_recipients
from anymail.message import ANYMAIL_STATUSES
from anymail.wire import Response


def test_it_starts_empty() -> None:
    status = AnymailStatus()
    assert (status.message_id, status.status, status.recipients, status.esp_response) == (None, None, {}, None)


def test_one_id_for_all() -> None:
    status = AnymailStatus()
    addresses = [EmailAddress("", "a@x.example", "A@X.example"), EmailAddress("", "b@x.example")]
    response = Response(200)
    status.record(all_recipients(addresses, "sent", "id-1"), response)
    assert status.message_id == "id-1"
    assert status.status == {"sent"}
    assert status.recipients == {"A@X.example": ("id-1", "sent"), "b@x.example": ("id-1", "sent")}
    assert status.esp_response is response


def test_different_ids_and_statuses() -> None:
    status = AnymailStatus()
    recipients = {
        "a@x.example": AnymailRecipientStatus("1", "sent"),
        "b@x.example": AnymailRecipientStatus("2", "queued"),
        "c@x.example": AnymailRecipientStatus(None, "rejected"),
    }
    status.record(recipients, None)
    assert status.message_id == {"1", "2"}
    assert status.status == {"sent", "queued", "rejected"}


def test_no_id() -> None:
    status = AnymailStatus()
    status.record({"a@x.example": AnymailRecipientStatus(None, "failed")}, None)
    assert (status.message_id, status.status) == (None, {"failed"})


def test_the_words() -> None:
    assert set(ANYMAIL_STATUSES) == {"sent", "queued", "invalid", "rejected", "failed", "unknown"}


def test_the_error_of_a_part() -> None:
    error = AnymailAPIError("too many", category="rate_limit")
    recipients = {
        "a@x.example": AnymailRecipientStatus("1", "sent"),
        **all_recipients([EmailAddress("", "b@x.example"), EmailAddress("", "c@x.example")], "failed", error=error),
    }
    status = AnymailStatus()
    assert status.errors == {}
    status.record(recipients, None)
    assert status.errors == {"b@x.example": error, "c@x.example": error}
    assert status.recipients["a@x.example"].error is None
    status.record({"a@x.example": AnymailRecipientStatus("1", "sent")}, None)
    assert status.errors == {}


def test_a_recipients_status_is_a_pair() -> None:
    one = AnymailRecipientStatus(None, "failed", AnymailAPIError("no"))
    message_id, word = one
    assert (message_id, word) == one == AnymailRecipientStatus(None, "failed")
    assert len(one) == 2
    assert hash(one) == hash((None, "failed"))
    assert repr(one) == "AnymailRecipientStatus(message_id=None, status='failed')"
    for again in (copy.copy(one), pickle.loads(pickle.dumps(one))):
        assert again == one
        assert str(again.error) == str(one.error)


def test_statuses_can_be_added() -> None:
    status = AnymailStatus()
    status.esp_response = response = Response(200)
    status.set_recipient_status({"a@x.example": AnymailRecipientStatus("1", "sent")})
    status.set_recipient_status({"b@x.example": AnymailRecipientStatus("2", "queued")})
    assert (status.message_id, status.status) == ({"1", "2"}, {"sent", "queued"})
    assert list(status.recipients) == ["a@x.example", "b@x.example"]
    assert status.esp_response is response
