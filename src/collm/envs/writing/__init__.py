"""TLDR and arXiv: agents write two texts that must fit each other (tasks.md section 1)."""
