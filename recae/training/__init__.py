"""Batches, trainer and checkpoints."""
