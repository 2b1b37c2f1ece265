"""Builds as files for people: pictures, Minecraft functions, schematics."""
