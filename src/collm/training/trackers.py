"""TensorBoard, and Weights & Biases where the configuration asks for it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from collm.config.schema import Config
from collm.errors import ConfigError


class Trackers:
    """Writes numbers to the trackers that are switched on; steps are updates."""

    def __init__(self, run_dir: Path, config: Config, first_update: int) -> None:
        # purge_step hides what a killed run had logged past its checkpoint.
        self._tensorboard = SummaryWriter(str(run_dir / "tensorboard"), purge_step=first_update + 1) if config.logging.tensorboard else None
        self._wandb: Any = None
        if config.logging.wandb is not None:
            try:
                import wandb  # pyright: ignore[reportMissingImports]
            except ImportError as error:
                raise ConfigError(
                    "logging.wandb is set but wandb is not installed; pip install 'collm[wandb]' or set logging.wandb=null"
                ) from error
            self._wandb = wandb.init(
                project=config.logging.wandb.project,
                mode=config.logging.wandb.mode,
                dir=str(run_dir),
                config=config.model_dump(mode="json"),
                id=_wandb_id(run_dir),
                resume="allow",
            )

    def log(self, row: Mapping[str, Any], update: int) -> None:
        numbers = {k: v for k, v in row.items() if isinstance(v, int | float)}
        if self._tensorboard is not None:
            for key, value in numbers.items():
                self._tensorboard.add_scalar(key, value, update)
        if self._wandb is not None:
            self._wandb.log(numbers, step=update)

    def close(self) -> None:
        if self._tensorboard is not None:
            self._tensorboard.close()
        if self._wandb is not None:
            self._wandb.finish()


def _wandb_id(run_dir: Path) -> str:
    """The run's id there, made once and kept in the run folder: folder names repeat from machine to machine."""
    file = run_dir / "wandb-id"
    if not file.exists():
        file.write_text(uuid.uuid4().hex)
    return file.read_text()
