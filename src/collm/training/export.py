"""The trained agents and critics as ordinary Hugging Face folders.

final/agent_0/       config.json, model.safetensors, tokenizer: loads with plain transformers
final/critic/        the backbone in the same format, value_head.safetensors beside it

A critic that shares an agent's backbone is the value_head.safetensors in that agent's folder.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from safetensors import SafetensorError
from transformers import PreTrainedTokenizerBase

from collm.errors import RunFolderError
from collm.models.host import Host
from collm.models.team import Team


def save_final(team: Team, folder: Path) -> None:
    """Write every agent (adapters merged in) and every critic. Raises RunFolderError when the disk refuses."""
    try:
        for policy in team.policies.values():
            _save(policy.host, policy.agent, policy.chat.tokenizer, folder / policy.agent)
        for critic in (c for c in team.critics.values() if not c.shares_backbone):
            _save(critic.host, critic.name, critic.host.loaded.tokenizer, folder / critic.name)
    except (OSError, SafetensorError) as error:
        # safetensors has an error of its own for a full disk.
        raise RunFolderError(
            f"could not write the final models to {folder}: {error}; free some space and run `collm train --resume {folder.parent}`"
        ) from error


def _save(host: Host, member: str, tokenizer: PreTrainedTokenizerBase, target: Path) -> None:
    temporary = target.with_name(f".writing-{target.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    host.save(member, temporary)
    tokenizer.save_pretrained(temporary)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(temporary, target)
