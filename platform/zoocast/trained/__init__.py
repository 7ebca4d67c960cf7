"""Using what was trained: a network with the units of its data, predictions on clips of the user's own, export, model cards."""
