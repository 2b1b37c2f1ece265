"""HouseBuild: agents fill boxes with blocks to build a house while spiders attack (tasks.md section 3)."""
