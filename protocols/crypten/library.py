"""CrypTen 0.4.1 as a library of gates: how it is imported, and how several of its parties live in one process.

CrypTen keeps a party's state in its modules: the communicator, the random generators, the settings, the client of its third
party. A peer serves several sessions at once, so each of these is made to look for the party of the running thread
(`entered`); CrypTen's gates are not changed. Settings are read from plain objects: omegaconf takes half the time of a step of
one token. Its import needs a stand-in for `crypten.nn.onnx_converter`, which reaches for
internals of torch.onnx that are gone, and which no gate uses.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any

from ...errors import ConfigError

VERSION = "0.4.1"
HOW = f"pip install 'tacit[crypten]' && pip install --no-deps crypten=={VERSION}"
CONVERTER = "crypten.nn.onnx_converter"
CONVERTER_NAMES = ("from_onnx", "from_pytorch", "from_tensorflow", "TF_AND_TF2ONNX")
THIRD_PARTY = "TTP"
SECTIONS = ("communicator", "debug", "encoder", "functions", "mpc")

_lock = threading.Lock()


def load() -> ModuleType:
    """The module `crypten`, ready for `entered`. ConfigError if it is not installed, or in another version."""
    with _lock:  # sessions begin in threads
        return _loaded()


def installed() -> bool:
    """Whether `load` would work."""
    try:
        load()
    except ConfigError:
        return False
    return True


@cache
def _loaded() -> ModuleType:
    sys.modules.setdefault(CONVERTER, _stand_in())
    try:
        crypten = importlib.import_module("crypten")
    except ImportError as error:
        raise ConfigError(f"protocol 'crypten' needs CrypTen ({error}): {HOW}") from None
    if crypten.__version__ != VERSION:
        raise ConfigError(f"protocol 'crypten' needs CrypTen {VERSION}, not {crypten.__version__}: {HOW}")
    _made_per_thread(crypten)
    return crypten


def _stand_in() -> ModuleType:
    def missing(*args: object, **kwargs: object) -> None:
        raise NotImplementedError("models are read by tacit.models, not by CrypTen's converter")

    module = ModuleType(CONVERTER)
    for name in CONVERTER_NAMES:
        setattr(module, name, missing)
    return module


def _made_per_thread(crypten: ModuleType) -> None:
    threads = importlib.import_module("crypten.communicator.in_process_communicator").InProcessCommunicator
    settings = importlib.import_module("crypten.config").cfg
    provider: Any = importlib.import_module("crypten.mpc.provider.ttp_provider")

    def party() -> Any:
        return threads.get()  # None outside `entered`

    class Generators:
        """CrypTen asks for generators[purpose][device]."""

        def __init__(self, purpose: str) -> None:
            self._purpose = purpose

        def __getitem__(self, device: Any) -> Any:
            return party().generators[self._purpose]

    class Settings(type(settings)):  # type: ignore[misc]
        """CrypTen asks for cfg.section.name. What one session overrides is none of another's business."""

        def __getattribute__(self, name: str) -> Any:
            if name in SECTIONS:
                found = party()
                return getattr(default if found is None else found.settings, name)
            return object.__getattribute__(self, name)

        @contextmanager
        def temp_override(self, changes: dict[str, Any]) -> Iterator[None]:
            found = party()
            before = found.settings
            found.settings = changed(before, changes)
            try:
                yield
            finally:
                found.settings = before

    class ThirdParty:
        """CrypTen asks for TTPClient.get()."""

        @staticmethod
        def get() -> Any:
            return party().third_party

    default = changed(_plain(settings.config), {"mpc.provider": THIRD_PARTY})
    settings.__class__ = Settings
    for purpose in crypten.generators:
        crypten.generators[purpose] = Generators(purpose)
    provider.TTPClient = ThirdParty
    crypten.set_grad_enabled(False)


@contextmanager
def entered(party: Any) -> Iterator[None]:
    """CrypTen's gates, called in this thread, are those of `party` (a `communicator.Party`)."""
    crypten = load()
    threads = importlib.import_module("crypten.communicator.in_process_communicator").InProcessCommunicator
    before = getattr(threads.tls, "instance", None)
    threads.tls.instance = party
    try:
        crypten.communicator._init(use_threads=True)
        yield
    finally:
        if before is None:
            del threads.tls.instance
        else:
            threads.tls.instance = before


def changed(settings: SimpleNamespace, changes: Mapping[str, Any]) -> SimpleNamespace:
    """A copy of CrypTen's settings with some changed, each by its name "section.name"."""
    out = SimpleNamespace(**{section: SimpleNamespace(**vars(getattr(settings, section))) for section in SECTIONS})
    for name, value in changes.items():
        section, _, entry = name.partition(".")
        setattr(getattr(out, section), entry, value)
    return out


def settings() -> SimpleNamespace:
    """CrypTen's settings as a party starts with them: its defaults, and the third party as provider."""
    load()
    read = importlib.import_module("crypten.config").cfg
    return SimpleNamespace(**{section: getattr(read, section) for section in SECTIONS})


def _plain(config: Any) -> SimpleNamespace:
    return SimpleNamespace(**{section: SimpleNamespace(**dict(config[section])) for section in SECTIONS})
