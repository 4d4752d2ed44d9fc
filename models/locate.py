"""Where a model is: a folder, a model shipped with the package, one in a package of its own, or a hub model that this machine
already has."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import ModelError
from .packaged import PACKAGED, find_packaged

_SHIPPED = Path(__file__).parent
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def shipped_models() -> list[str]:
    """The names of the models that come with the package."""
    return sorted(path.parent.name for path in _SHIPPED.glob("*/config.json"))


def locate(name_or_path: str | Path) -> Path:
    """The folder of a model. Nothing is downloaded. ModelError says where was looked."""
    path = Path(name_or_path).expanduser()
    if (path / "config.json").is_file():
        return path
    name = str(name_or_path)
    if name in shipped_models():
        return _SHIPPED / name
    packaged = find_packaged(name)
    if packaged is not None:
        return packaged
    cached = _cached(name) if _HUB_NAME.fullmatch(name) else None
    if cached is not None:
        return cached
    if path.is_dir():
        raise ModelError(f"{path}: is not a model folder, it has no config.json")
    shipped = ", ".join(shipped_models()) or "none"
    raise ModelError(
        f"no model {name!r}: not a folder, not shipped (shipped: {shipped}) and not in the local Hugging Face cache. "
        "Give the path of a folder with config.json and model.safetensors"
    )


def model_name(name_or_path: str | Path, folder: Path) -> str:
    """What a located model is called: a hub or package name stays as it is; a folder is called by its last part."""
    if name_or_path in PACKAGED and not Path(name_or_path).expanduser().is_dir():
        return str(name_or_path)
    if isinstance(name_or_path, str) and "/" in name_or_path and not Path(name_or_path).expanduser().is_dir():
        return name_or_path
    return folder.resolve().name


def _cached(name: str) -> Path | None:
    """The folder of a hub model's newest snapshot, if it was downloaded before."""
    from huggingface_hub import try_to_load_from_cache  # slow to import, and needed for hub names only

    try:
        found = try_to_load_from_cache(name, "config.json")
    except ValueError:  # the hub knows more rules for its names than _HUB_NAME
        return None
    return Path(found).parent if isinstance(found, str) else None
