"""This machine's addresses."""

from __future__ import annotations

import ipaddress


def own_hosts() -> list[str]:
    """IP addresses of this machine's interfaces that others may reach: neither loopback nor link-local."""
    import ifaddr  # comes with libp2p

    found = []
    for adapter in ifaddr.get_adapters():
        for entry in adapter.ips:
            ip = ipaddress.ip_address(entry.ip if isinstance(entry.ip, str) else entry.ip[0])
            if not (ip.is_loopback or ip.is_link_local or ip.is_unspecified) and str(ip) not in found:
                found.append(str(ip))
    return sorted(found, key=lambda host: ":" in host)  # IPv4 first: it is what people copy
