"""The contract of all recommenders and the exact streamed top-k."""
