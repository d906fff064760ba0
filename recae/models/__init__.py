"""The recommenders people import."""
