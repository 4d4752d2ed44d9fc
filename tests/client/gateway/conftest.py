"""The shipped model, and a gateway over it that most tests share."""

from __future__ import annotations

import openai
import pytest
from in_the_clear import Offered, Shipped, embed, gateway


@pytest.fixture(scope="session")
def shipped():
    found = Shipped()
    yield found
    found.close()


@pytest.fixture(scope="session")
def address(shipped):
    with gateway(Offered(shipped, embedder=embed)) as found:
        yield found


@pytest.fixture(scope="session")
def client(address):
    """The official client, as a program would use it; no retries, so that a test sees every error."""
    with openai.OpenAI(base_url=f"{address}/v1", api_key="-", max_retries=0, timeout=20) as found:
        yield found
