"""Language models: loading, generating, scoring, updating."""

from collm.models.cpu_memory import give_back_freed_memory

# Before peft is imported, which makes torch's first tensor: that is when torch looks at its own setting.
give_back_freed_memory()
