"""Errors a person can act on: each message names the thing, the place and the mend."""

from __future__ import annotations


class CollmError(Exception):
    """Base of every error that collm raises on purpose. The command line prints it without a traceback."""

    def add_place(self, place: str) -> None:
        """Put where it happened in front of the message."""
        self.args = (f"{place}: {self}", *self.args[1:])


class ConfigError(CollmError):
    """A configuration that cannot be used: unknown key, wrong type or contradicting values."""


class DataError(CollmError):
    """A data row or file that cannot be used; names file, line and field."""


class ModelError(CollmError):
    """A model folder, tokenizer or checkpoint that cannot be used."""


class EnvContractError(CollmError):
    """An environment that breaks the contract of `collm.envs.base`."""


class EndpointError(CollmError):
    """A model's endpoint that does not answer, or not as it should; names the address and what came."""


class ContextOverflowError(CollmError):
    """A single prompt that does not fit into an agent's context window."""


class NonFiniteLossError(CollmError):
    """A loss or gradient that is NaN or infinite; names the member (agent or critic), the update and the episodes."""


class RunFolderError(CollmError):
    """A run folder that is missing, incomplete or already in use."""


class SandboxError(CollmError):
    """Untrusted code that cannot be run: a level that this machine does not give, an invalid test, or a failed sandbox process."""


class WorkerError(CollmError):
    """A process that steps environments and cannot do so: it has ended, or the environment cannot be sent to it; names the episode."""
