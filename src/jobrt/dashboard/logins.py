"""Failed logins: how long an address has to wait until its next one."""

import logging
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import Final

import attrs
import trio

_FREE_FAILURES: Final = 3
"""Failures in a row without a wait: people mistype."""
_LONGEST_WAIT: Final = 30.0
"""Seconds to wait at most, so that an operator who shares an address with an attacker is not locked out for long."""
_ADDRESSES_KEPT: Final = 1000

_log = logging.getLogger("jobrt.dashboard")


@attrs.define
class _Failures:
    count: int = 0
    until: float = 0.0


@attrs.define(eq=False)
class FailedLogins:
    """Failures in a row by client address, for a bounded number of addresses.

    After three failures, the address waits 1, 2, 4, ... 30 seconds. Its requests are refused during that time, and
    their password is not looked at. Other addresses are not affected.
    """

    clock: Callable[[], float] = trio.current_time
    _failures: OrderedDict[str, _Failures] = attrs.Factory(OrderedDict)

    def seconds_to_wait(self, address: str) -> float:
        """Return the seconds until a login from an address is looked at; 0 for now."""
        failures = self._failures.get(_network(address))
        return 0.0 if failures is None else max(0.0, failures.until - self.clock())

    def note_failure(self, address: str) -> None:
        """Count a wrong password, and log it."""
        network = _network(address)
        failures = self._failures.setdefault(network, _Failures())
        self._failures.move_to_end(network)
        if len(self._failures) > _ADDRESSES_KEPT:
            self._failures.popitem(last=False)
        failures.count += 1
        beyond = min(failures.count - _FREE_FAILURES, 16)
        wait = min(2.0 ** (beyond - 1), _LONGEST_WAIT) if beyond > 0 else 0.0
        failures.until = self.clock() + wait
        _log.warning(
            "failed login from %s (%d in a row; the next is refused for %g s)", address, failures.count, wait
        )

    def note_success(self, address: str) -> None:
        """Forget the failures of an address."""
        self._failures.pop(_network(address), None)


def _network(address: str) -> str:
    """Return what failures are counted by: the address, or its /64 network, all of which one IPv6 client has."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    return str(int(found) >> 64) if isinstance(found, IPv6Address) else address
