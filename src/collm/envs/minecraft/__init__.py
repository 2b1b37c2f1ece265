"""What the Minecraft tasks share: the text rules of commands and the world they run on."""
