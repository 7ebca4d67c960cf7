"""What Ray Tune may vary: one module per search space, each with a function ``space(base)`` that gives a `SearchSpace`.

`base` is the config that is searched, so a range may depend on what is not varied.
`zoocast.search.load_space` finds them by name.
"""
