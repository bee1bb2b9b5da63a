"""Messages of webhooks, and what a receiver's answer means."""

from __future__ import annotations

import datetime
import email.utils

import httpx
import pytest

from timestep.approvals.webhook import Webhook, _answer
from timestep.environment import key_of


def test_a_signature_is_that_of_the_specification() -> None:
    # The example that the libraries of the Standard Webhooks specification test with.
    webhook = Webhook(
        url="https://example.com",
        key=key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        is_chat=False,
        public_url=None,
    )
    headers = webhook.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("7", 7), ("", 0), ("soon", 0), ("-1", 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0)],
)
def test_a_receiver_says_when_to_come_back(given: str, seconds: float) -> None:
    answer = _answer(httpx.Response(503, headers={"retry-after": given}))
    assert (answer.may_pass, answer.retry_after) == (True, seconds)


def test_a_receiver_may_name_a_moment() -> None:
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=90)
    given = email.utils.format_datetime(moment, usegmt=True)
    answer = _answer(httpx.Response(429, headers={"retry-after": given}))
    assert 80 < answer.retry_after <= 90


@pytest.mark.parametrize("status", [301, 400, 401, 404, 410, 422])
def test_what_a_receiver_refuses_is_not_sent_again(status: int) -> None:
    answer = _answer(httpx.Response(status))
    assert (answer.failure, answer.may_pass) == (f"HTTP status {status}", False)
