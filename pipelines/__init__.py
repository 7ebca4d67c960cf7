"""What can be run: one module of Python per pipeline, and the `pipelines` command (`__main__.py`).

A module is a pipeline when it has `SUMMARY`, a frozen config dataclass, `PRESETS` (name -> function without arguments that
returns a config) and `steps(config)`, whose last step is `report`. Nothing needs to be registered: `catalogue.py` finds it by its
`SUMMARY`.
"""
