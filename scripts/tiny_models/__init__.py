"""Helpers of scripts/make_tiny_models.py: scripted builders, tokenizers, training and checks of the built-in tiny models."""
