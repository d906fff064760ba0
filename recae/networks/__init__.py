"""Equations and networks, one file per paper."""
