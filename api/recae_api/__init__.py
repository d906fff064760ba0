"""The HTTP application of `recae`."""
