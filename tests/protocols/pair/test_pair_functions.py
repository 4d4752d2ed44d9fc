"""The functions of tables against the C library's, and the same tables on every kind of CPU."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
from tacit.protocols.pair import functions
from tacit.protocols.plain import plain

X = np.linspace(-60, 60, 20001)
TABLES = """
import hashlib
import numpy as np
from tacit.protocols.pair.attention import turns
from tacit.protocols.pair.scales import _exp, _gated, _pointwise, _reciprocal, _rsqrt
tables = [_exp(18), _gated("silu", 18, 22), _reciprocal(30, 2.0**-8, 46), _rsqrt(50, 20, 768 * 4.0**14, 1e-5, 50, 2.0**24)]
tables += [_pointwise(name, 18, 32) for name in ("gelu", "gelu_tanh", "relu")]
for theta in (1e4, 5e5, 1.3e6):
    print(*(hashlib.sha256(x.tobytes()).hexdigest() for x in turns(theta, 80, np.arange(5000), 14)))
print(*(table.digest for table in tables))
"""


def test_exp_and_erf_are_those_of_the_c_library() -> None:
    """exp to 2 units of the last place, erf to 1e-14."""
    np.testing.assert_allclose(functions.exp(X), np.exp(X), rtol=4.5e-16)
    np.testing.assert_allclose(functions.erf(X / 8), np.vectorize(math.erf)(X / 8), rtol=0, atol=1e-14)


def test_cos_sin_and_log_are_those_of_the_c_library() -> None:
    """To 1e-15 over every angle a rotation can have; log to 2 units of the last place."""
    angles = np.concatenate([np.linspace(-70000, 70000, 100001), np.arange(70000.0), np.arange(-8, 9) * np.pi / 4])
    cos, sin = functions.cos_sin(angles)
    np.testing.assert_allclose(cos, np.cos(angles), rtol=0, atol=1e-15)
    np.testing.assert_allclose(sin, np.sin(angles), rtol=0, atol=1e-15)
    for x in (1e-5, 0.7, 1.0, 2.0, 10000.0, 5e6):
        assert functions.log(x) == pytest.approx(math.log(x), rel=4.5e-16, abs=2.3e-16)


@pytest.mark.parametrize("name", sorted(functions.FUNCTIONS))
def test_activations_are_those_of_the_oracle(name: str) -> None:
    """To 1e-13, far below any table's tolerance."""
    np.testing.assert_allclose(functions.FUNCTIONS[name](X), plain.ACTIVATIONS[name](X), rtol=0, atol=1e-13)


def test_tables_and_rotations_do_not_depend_on_the_kind_of_cpu() -> None:
    """Coefficients that differ by one unit between two peers make every value of the gate a uniform one."""
    found = []
    for settings in ({}, {"NPY_DISABLE_CPU_FEATURES": "X86_V4 X86_V3", "OPENBLAS_CORETYPE": "Haswell"}):
        command = [sys.executable, "-W", "ignore", "-c", TABLES]
        done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, check=True, timeout=120)
        found.append(done.stdout)
    assert found[0] == found[1]
    assert len(found[0].split()) == 7 + 6
