from __future__ import annotations

import pytest

from optidash_integrations.guard import (
    RefusedAddressError,
    checked_addresses,
    is_public,
    resolved,
)


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8"],
)
def test_the_public_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.255.255.254",
        "0.0.0.0",
        "0.1.2.3",
        "10.1.2.3",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "192.0.0.1",
        "192.0.2.1",
        "192.88.99.1",
        "198.18.0.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:0:127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::8.8.8.8",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fe80::1%eth0",
        "::1%lo",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
    ],
)
def test_no_other_network_is_public_whatever_leads_to_it(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["", "localhost", "8.8.8", "010.8.8.8", "0x8.8.8.8", "134744072"]
)
def test_what_is_no_address_is_not_public(address: str) -> None:
    assert not is_public(address)


def test_a_public_host_leads_to_its_addresses() -> None:
    addresses = ["93.184.216.34", "2606:4700::1"]
    assert checked_addresses("h.example", 443, (), lambda host, port: addresses) == addresses


@pytest.mark.parametrize("place", range(3))
def test_one_address_that_is_not_public_refuses_the_host(place: int) -> None:
    """A resolver that mixes them must not be asked until it gives the other one."""
    addresses = ["93.184.216.34", "93.184.216.35"]
    addresses.insert(place, "10.0.0.1")
    with pytest.raises(RefusedAddressError, match=r"h\.example is not on the public internet"):
        checked_addresses("h.example", 443, (), lambda host, port: addresses)


def test_an_allowed_host_may_lie_anywhere_and_no_other_one() -> None:
    allowed = {"storage.local"}

    def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    assert checked_addresses("Storage.Local", 443, allowed, resolve) == ["127.0.0.1"]
    for host in ("storage.local.example", "a.storage.local", "127.0.0.1"):
        with pytest.raises(RefusedAddressError):
            checked_addresses(host, 443, allowed, resolve)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "2130706433", "0x7f.1", "127.1", "localhost"])
def test_this_machine_is_refused_however_it_is_spelled(host: str) -> None:
    try:
        resolved(host, 80)
    except OSError:
        return  # not a spelling that this system knows
    with pytest.raises(RefusedAddressError):
        checked_addresses(host, 80)


@pytest.mark.parametrize(
    "host", ["a..example", ".example", "a" * 64 + ".example", "\ud800.example"]
)
def test_a_name_that_can_be_none_is_an_os_error(host: str) -> None:
    with pytest.raises(OSError, match="no name of a host"):
        resolved(host, 80)


def test_a_host_with_several_sockets_has_each_address_once() -> None:
    assert len(resolved("127.0.0.1", 80)) == 1
