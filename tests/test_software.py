"""The digest of an installation: the same where everything is the same, another for every byte."""

from __future__ import annotations

import os
import re
import shutil
import time
import tomllib
from pathlib import Path

import pytest
from tacit.software import DEPENDENCIES, digest_of, files, software_digest, versions

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
VERSIONS = {"python": "3.11.7", "numpy": "2.4.6"}


@pytest.fixture
def copy(tmp_path):
    """What pip installs: nothing but the packages and their data."""
    for path in files(ROOT):
        target = tmp_path / "tacit" / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return tmp_path / "tacit"


def test_every_package_and_all_shipped_data_count():
    found = {path.relative_to(ROOT).as_posix() for path in files(ROOT)}
    setuptools = PROJECT["tool"]["setuptools"]
    for package in setuptools["packages"]:
        folder = ROOT.joinpath(*package.split(".")[1:])
        assert {path.relative_to(ROOT).as_posix() for path in folder.glob("*.py")} <= found
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "models").glob("stories/*")} <= found
    assert not [name for name in found if name.startswith(("tests/", "scripts/", "docs/", "build/"))]
    packages = {"/".join(package.split(".")[1:]) for package in setuptools["packages"]}
    assert {name.rpartition("/")[0] for name in found} == packages | {"models/stories"}


def test_every_dependency_counts():
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["peer"], *extras["mesh"], *extras["cuda"]]
    assert sorted(re.split(r"[^a-z0-9-]", one)[0] for one in asked) == list(DEPENDENCIES)
    assert set(versions()) == {"python", *DEPENDENCIES}
    assert re.fullmatch(r"[0-9.]+\w*", versions()["numpy"])


def test_an_installed_copy_is_the_same_as_the_working_copy(copy):
    assert digest_of(copy, VERSIONS) == digest_of(ROOT, VERSIONS)
    os.utime(copy / "errors.py", (1, 1))
    (copy / "__pycache__").mkdir()
    (copy / "__pycache__" / "errors.cpython-311.pyc").write_bytes(b"whatever")
    assert digest_of(copy, VERSIONS) == digest_of(ROOT, VERSIONS)


def test_the_order_of_a_directory_does_not_count(copy, monkeypatch):
    before = digest_of(copy, VERSIONS)
    listed = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: reversed(list(listed(self))))
    assert digest_of(copy, VERSIONS) == before


@pytest.mark.parametrize("name", ["errors.py", "protocols/pair/peer.py", "models/stories/model.safetensors"])
def test_one_byte_makes_another_digest(copy, name):
    before = digest_of(copy, VERSIONS)
    raw = bytearray((copy / name).read_bytes())
    raw[len(raw) // 2] ^= 1
    (copy / name).write_bytes(raw)
    assert digest_of(copy, VERSIONS) != before


def test_a_file_more_or_less_or_renamed_makes_another_digest(copy):
    found = {digest_of(copy, VERSIONS)}
    (copy / "party" / "extra.py").write_bytes(b"")
    found.add(digest_of(copy, VERSIONS))
    (copy / "party" / "extra.py").rename(copy / "party" / "other.py")
    found.add(digest_of(copy, VERSIONS))
    (copy / "party" / "other.py").unlink()
    (copy / "client" / "plain.py").unlink()
    found.add(digest_of(copy, VERSIONS))
    assert len(found) == 4


def test_versions_make_another_digest():
    assert digest_of(ROOT, VERSIONS) != digest_of(ROOT, {**VERSIONS, "numpy": "2.4.7"})


def test_it_is_quick_and_worked_out_once():
    software_digest.cache_clear()
    began = time.process_time()
    first = software_digest()
    assert time.process_time() - began < 0.3
    assert re.fullmatch(r"[0-9a-f]{64}", first)
    began = time.process_time()
    assert software_digest() == first
    assert time.process_time() - began < 0.001
