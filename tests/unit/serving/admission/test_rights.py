"""Whose word counts for what. The clock stands at 2013-01-01T00:00:00Z, which is 1356998400 s after 1970."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.clock import ManualClock
from penstock.observe.metrics import MetricSet
from penstock.serving.admission.rates.tenants import ApiKeys, Tenants, parse_networks
from penstock.serving.admission.request_start import WAITED_S_MAX
from penstock.serving.admission.rights import OF_ANYBODY, Rights

START_MS = 1_356_998_400_000
PROXY = b"10.1.2.3"
STRANGER = b"203.0.113.7"
LATER_S = 1000.0


class Rig:
    def __init__(self):
        self.metrics = MetricSet()
        self.clock = ManualClock()
        self.clock.advance(LATER_S)
        tenants = Tenants(ApiKeys(b"s" * 32), proxies=parse_networks("10.0.0.0/8,fd00::/8"))
        self.rights = Rights(tenants, self.metrics, self.clock)

    def waited_s(self, ms_ago, peer=PROXY):
        """What counts as waited of a request that says so; None: nothing is known."""
        sent = b"%d" % (START_MS + int(1000 * self.clock.monotonic()) - ms_ago)
        return self.said(sent, peer)

    def said(self, value, peer=PROXY):
        begun_s = self.rights.of({b"x-request-start": value}, peer).begun_s
        return None if begun_s == float("inf") else self.clock.monotonic() - begun_s

    @property
    def ignored(self):
        (line,) = [
            each
            for each in self.metrics.render().splitlines()
            if each.startswith("penstock_request_start_ignored_total")
        ]
        return float(line.split()[-1])


@given(st.integers(-100_000, 100_000))
def test_what_a_proxy_says_counts_within_reason(ms_ago):
    rig = Rig()
    waited_s = rig.waited_s(ms_ago)
    if 0 <= ms_ago <= 1000 * WAITED_S_MAX:
        assert waited_s == pytest.approx(ms_ago / 1000, abs=1e-5)
    else:
        assert waited_s is None
    reasonable = -1000 <= ms_ago <= 1000 * WAITED_S_MAX
    assert rig.ignored == (0 if reasonable else 1)


@pytest.mark.parametrize("value", [b"soon", b"t=", b"0", b"-5", b"9" * 30, b"\xff"])
def test_nonsense_is_counted_and_nothing_else(value):
    rig = Rig()
    assert rig.said(value) is None
    assert rig.ignored == 1


@pytest.mark.parametrize(
    "peer", [STRANGER, b"", b"/run/socket", b"ipv4:203.0.113.7", b"ipv6:%5B2001:db8::1%5D"]
)
def test_a_stranger_is_not_believed(peer):
    rig = Rig()
    assert rig.waited_s(5000, peer) is None
    assert rig.said(b"nonsense", peer) is None
    assert rig.ignored == 0


@pytest.mark.parametrize("peer", [b"ipv4:10.0.0.9", b"ipv6:%5Bfd00::1%5D", b"::ffff:10.0.0.9"])
def test_a_proxy_is_known_however_its_address_is_written(peer):
    assert Rig().waited_s(5000, peer) == pytest.approx(5.0)


def test_the_same_words_later_are_longer_ago():
    rig = Rig()
    value = b"%d" % (START_MS + 1_000_000)
    for seconds in (0.0, 1.0, 59.0):
        rig.clock.advance(seconds)
        assert rig.said(value) == pytest.approx(rig.clock.monotonic() - LATER_S, abs=1e-5)
    rig.clock.advance(0.5)
    assert rig.said(value) is None


def test_who_says_nothing():
    assert Rig().rights.of({b"x-forwarded-for": b"1.2.3.4"}, PROXY) == OF_ANYBODY


KEYS = {"acme": b"acme-0123456789abcdef", "other": b"other-0123456789abcdef"}


def rights_of(privileged, **further):
    keys = ApiKeys(b"s" * 32)
    for name, key in KEYS.items():
        keys.add(name, key.decode())
    tenants = Tenants(keys, proxies=parse_networks("10.0.0.0/8"), **further)
    return Rights(tenants, MetricSet(), ManualClock(), privileged=privileged)


@pytest.mark.parametrize("trust_keys", [False, True])
@pytest.mark.parametrize(
    ("headers", "highest"),
    [
        ({b"x-api-key": KEYS["acme"]}, 1),
        ({b"authorization": b"Bearer " + KEYS["acme"]}, 1),
        ({b"x-api-key": KEYS["other"]}, 2),
        ({b"x-api-key": b"made-up-0123456789"}, 2),
        ({b"x-api-key": b"acme"}, 2),
        ({}, 2),
    ],
)
def test_only_the_privileged_may_name_the_highest_class(headers, highest, trust_keys):
    rights = rights_of(frozenset({"acme"}), trust_keys=trust_keys)
    assert rights.of(headers, STRANGER).highest == highest
    assert rights_of(frozenset()).of(headers, STRANGER).highest == 2
    assert rights_of(None).of(headers, STRANGER).highest == 1


def test_who_was_told_apart_already_is_not_asked_again():
    rights = rights_of(frozenset({"acme"}))
    assert rights.of({}, STRANGER, "acme").highest == 1
    assert rights.of({b"x-api-key": KEYS["acme"]}, STRANGER, "other").highest == 2


def test_one_right_takes_nothing_from_the_other():
    rights = rights_of(frozenset({"acme"}))
    granted = rights.of({b"x-request-start": b"%d" % (START_MS - 3000)}, PROXY)
    assert (granted.highest, granted.begun_s) == (2, pytest.approx(-3.0))
