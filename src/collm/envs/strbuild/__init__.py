"""StrBuild: agents place blocks that spell a string (tasks.md section 3)."""
