"""Autoencoder recommenders, equal to their papers."""
