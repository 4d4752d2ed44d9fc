"""Tiny models with random weights, fresh for each test."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tacit.models.layout import read_layout
from tiny_models import GPT2, LLAMA, Folder


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Folder]:
    """make_folder(config) -> Folder with random weights of order one, norms and biases included."""

    def make(config: dict[str, Any], **changes: Any) -> Folder:
        config = config | changes
        layout = read_layout(config)
        rng = np.random.default_rng(7)  # weights are no secret
        tensors = {}
        for name, shape in layout.shapes.items():
            full = name if name == "lm_head.weight" else layout.prefix + name
            tensors[full] = rng.normal(0.3, 0.7, shape).astype(np.float32)
        folder = Folder(tmp_path, config, tensors)
        folder.configure()
        folder.save()
        return folder

    return make


@pytest.fixture
def llama(make_folder: Callable[..., Folder]) -> Folder:
    return make_folder(LLAMA)


@pytest.fixture
def gpt2(make_folder: Callable[..., Folder]) -> Folder:
    return make_folder(GPT2)
