"""A pipeline with a fault in its own code, of the kind that no error message can foresee."""

SUMMARY = "divide by zero"
PRESETS = {"laptop": dict}


def steps(config):
    return (1 / len(config),)
