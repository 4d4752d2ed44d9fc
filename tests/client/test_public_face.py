"""What users import: exactly these names, quickly, and without anything that only peers need."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest
import tacit
from tacit import errors

ROOT = Path(__file__).resolve().parents[2]

FORBIDDEN = ("torch", "numba", "safetensors", "libp2p", "fastapi", "uvicorn")
FORBIDDEN_OURS = ("tacit.party", "tacit.models", "tacit.protocols", "tacit.coordinator")


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=False
    )


def test_exported_names():
    assert tacit.__all__ == [
        "Client",
        "Cluster",
        "Completion",
        "ConfigError",
        "Embeddings",
        "Generation",
        "IdentityError",
        "ModelError",
        "NetworkError",
        "PeerError",
        "PeerLost",
        "Piece",
        "Policy",
        "RefusedError",
        "Resume",
        "TacitError",
        "Timings",
        "TokenLogprob",
        "Traffic",
        "Usage",
        "UsageError",
        "__version__",
        "study",
    ]
    for name in tacit.__all__:
        assert getattr(tacit, name) is not None
    assert dir(tacit) == tacit.__all__
    with pytest.raises(AttributeError, match="Clinet"):
        _ = tacit.Clinet


def test_every_error_is_exported_and_under_one_root():
    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert kinds <= set(tacit.__all__)
    assert all(issubclass(getattr(tacit, name), tacit.TacitError) for name in kinds)


def test_the_version_is_the_packages():
    assert tacit.__version__ == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


HOOK = f"""
    import importlib.abc, sys

    FORBIDDEN = {FORBIDDEN + FORBIDDEN_OURS!r}

    class Forbid(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            if any(name == one or name.startswith(one + ".") for one in FORBIDDEN):
                raise ModuleNotFoundError(f"forbidden: {{name}}", name=name)

    sys.meta_path.insert(0, Forbid())
"""


def test_the_client_works_without_what_peers_need():
    """Every module of the client imports, and every exported name resolves, where a client-only install ends."""
    paths = [path.relative_to(ROOT / "client") for path in (ROOT / "client").rglob("*.py")]
    modules = sorted(".".join(path.with_suffix("").parts) for path in paths if path.stem != "__init__")
    assert {"api", "doctor.node"} <= set(modules)
    done = python(
        HOOK
        + f"""
    import importlib, tacit
    for name in {modules!r}:
        importlib.import_module(f"tacit.client.{{name}}")
    for name in tacit.__all__:
        getattr(tacit, name)
    print("fine")
    """
    )
    assert done.stdout.strip() == "fine", done.stderr


def test_the_hook_of_these_tests_bites():
    assert "forbidden: torch" in python(HOOK + "\n    import torch\n").stderr
    assert "forbidden: tacit.models" in python(HOOK + "\n    import tacit.models\n").stderr


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("from tacit.client.launch import Cluster; Cluster().start()", "[peer]"),
        ("from tacit.client.plain import generate; generate(None, 'x', max_new_tokens=1)", "[peer]"),
        ("from tacit.client.commands import run_check; run_check('x')", "[peer]"),
    ],
)
def test_what_needs_peers_says_which_extra(code, words):
    """As where only the client is installed: our own modules are there, torch and numba are not."""
    done = python(f"import sys\nsys.modules.update(dict.fromkeys({FORBIDDEN!r}))\n{code}\n")
    assert "ConfigError" in done.stderr, done.stderr
    assert words in done.stderr.splitlines()[-1]


def test_import_is_quick_and_loads_next_to_nothing():
    done = python(
        """
        import time
        began = time.perf_counter()
        import tacit
        seconds = time.perf_counter() - began
        import sys
        heavy = [name for name in ("numpy", "zmq", "httpx2", "rich", "typer", "torch", "numba") if name in sys.modules]
        print(seconds < 0.3, heavy)
        """
    )
    assert done.stdout.strip() == "True []", done.stderr
