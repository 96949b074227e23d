"""Signatures of webhooks: that a message is from here, about what, and from when.

Source: the Standard Webhooks specification (version 1.0), symmetric signatures.
"""

import base64
import binascii
import hashlib
import hmac

from penstock.core.errors import ConfigurationError

__all__ = ["WebhookSecret"]

PREFIX = "whsec_"
KEY_BYTES_MIN, KEY_BYTES_MAX = 24, 64


class WebhookSecret:
    """What messages are signed with."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "WebhookSecret(***)"

    @classmethod
    def parse(cls, setting: str) -> "WebhookSecret | None":
        """None: there is none. Raises `ConfigurationError` for what is none; it is not shown."""
        if not setting:
            return None
        try:
            key = base64.b64decode(setting.removeprefix(PREFIX), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not setting.startswith(PREFIX) or not KEY_BYTES_MIN <= len(key) <= KEY_BYTES_MAX:
            raise ConfigurationError(
                f"setting 'jobs.webhook_secret' is not {PREFIX} and {KEY_BYTES_MIN} to {KEY_BYTES_MAX} bytes in"
                " base64",
                hint="python -c 'import base64, secrets;"
                f' print("{PREFIX}" + base64.b64encode(secrets.token_bytes(32)).decode())\' makes a good one',
            )
        return cls(key)

    def headers(self, message: str, timestamp_s: int, body: bytes) -> dict[str, str]:
        """Those of a message with this id, which is the same each time it is sent."""
        signed = f"{message}.{timestamp_s}.".encode() + body
        signature = base64.b64encode(hmac.new(self._key, signed, hashlib.sha256).digest()).decode()
        return {
            "webhook-id": message,
            "webhook-timestamp": str(timestamp_s),
            "webhook-signature": f"v1,{signature}",
        }
