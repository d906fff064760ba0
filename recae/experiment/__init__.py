"""From a typed config to a fitted, evaluated, saved model."""
