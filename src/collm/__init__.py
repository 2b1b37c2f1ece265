"""collm: teams of language models that learn to work together with multi-agent actor-critic.

`train`, `resume`, `evaluate` and `Trainer` are loaded on first use, so that `import collm` stays quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collm.api import Run, evaluate, resume, train
    from collm.models.loading import LoadedModel
    from collm.training.trainer import Trainer

__version__ = "0.1.0"
__all__ = ["LoadedModel", "Run", "Trainer", "__version__", "evaluate", "resume", "train"]

_HOMES = {
    "train": "collm.api",
    "resume": "collm.api",
    "evaluate": "collm.api",
    "Run": "collm.api",
    "Trainer": "collm.training.trainer",
    "LoadedModel": "collm.models.loading",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'collm' has no attribute {name!r}")
    from importlib import import_module

    return vars(import_module(_HOMES[name]))[name]
