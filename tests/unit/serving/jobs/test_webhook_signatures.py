import base64

import pytest

from penstock.core.errors import ConfigurationError
from penstock.serving.jobs.webhook_signatures import WebhookSecret

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_the_example_of_the_specification() -> None:
    secret = WebhookSecret.parse(SECRET)
    assert secret is not None
    assert secret.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}') == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_none_is_none() -> None:
    assert WebhookSecret.parse("") is None


@pytest.mark.parametrize(
    "setting",
    [
        "hunter2hunter2hunter2hunter2hunt",
        "whsec_hunter2",
        "whsec_!!!!",
        "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(),
    ],
)
def test_what_is_no_secret_is_not_shown(setting: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        WebhookSecret.parse(setting)
    assert "jobs.webhook_secret" in caught.value.message
    assert setting not in caught.value.message + (caught.value.hint or "")


def test_it_is_not_in_its_repr() -> None:
    assert "MfKQ" not in repr(WebhookSecret.parse(SECRET))
