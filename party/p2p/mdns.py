"""Members on the local network, by multicast DNS: each says under the cluster's namespace where it is.

The names show that somebody runs a node of some cluster here, nothing of the invite; who may join is decided by hello.
zeroconf itself is used, which libp2p brings: libp2p's own mDNS mixes all its users' hosts under one service name, and
hands what it finds to a queue common to the whole process.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from ...address import Address
from ...errors import UsageError

log = logging.getLogger("tacit.party.p2p")

SERVICE = "_tacit._tcp.local."
MAX_TEXT = 200  # characters of an address in a TXT record
RESOLVE_MS = 2000


class LocalNetwork:
    """Announces and looks around from `start` to `close`. A network without multicast is only told of."""

    def __init__(
        self, namespace: str, own_id: str, addresses: Callable[[], tuple[str, ...]], found: Callable[[Address], None]
    ) -> None:
        """`addresses`: our own multiaddrs. `found` is called for everybody of this namespace, from another thread."""
        self._namespace = namespace
        self._own_id = own_id
        self._addresses = addresses
        self._found = found
        self._zeroconf: Any = None
        self._stopped = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="mdns", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Does not wait: saying goodbye takes zeroconf longer than a node has to end."""
        with self._lock:
            self._stopped = True
            zeroconf = self._zeroconf
        if zeroconf is not None:
            threading.Thread(target=zeroconf.close, daemon=True).start()

    def _run(self) -> None:
        try:
            from zeroconf import ServiceBrowser, Zeroconf

            zeroconf = Zeroconf()
            with self._lock:
                self._zeroconf = zeroconf
                if self._stopped:
                    zeroconf.close()
                    return
            ServiceBrowser(zeroconf, SERVICE, handlers=[self._changed])
            zeroconf.register_service(self._service())
        except Exception as error:  # noqa: BLE001 - zeroconf raises OSError, its own and assertions of asyncio alike
            if not self._stopped:
                log.info("members on the local network are not looked for: %s", error or type(error).__name__)

    def _service(self) -> Any:
        from zeroconf import ServiceInfo

        found = [one for one in self._addresses() if len(one) <= MAX_TEXT]
        parsed = [Address.parse(one) for one in found]
        return ServiceInfo(
            SERVICE,
            f"{self._own_id[:16].replace('_', '-')}-{self._namespace[:8]}.{SERVICE}",
            port=parsed[0].port if parsed else 0,
            properties={"ns": self._namespace, **{f"dnsaddr{number}": one for number, one in enumerate(found)}},
            parsed_addresses=[one.host for one in parsed if one.kind in ("ip4", "ip6")],
        )

    def _changed(self, zeroconf: Any, service_type: str, name: str, state_change: Any) -> None:
        if state_change.name == "Removed" or self._stopped:
            return
        info = zeroconf.get_service_info(service_type, name, RESOLVE_MS)
        said = info.decoded_properties if info is not None else {}
        if said.get("ns") != self._namespace:
            return
        for key, text in said.items():
            if key.startswith("dnsaddr") and text:
                try:
                    self._found(Address.parse(text))
                except UsageError as error:
                    log.info("somebody on the local network announces what is no address: %s", error)
