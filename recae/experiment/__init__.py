"""From a typed config to a fitted, evaluated, saved model: where the layers meet."""
