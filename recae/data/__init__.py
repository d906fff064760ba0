"""Interactions, histories, splits: everything before a model."""
