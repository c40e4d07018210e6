"""schedfactory beside its peers and beside the machine's limit: `python -m benchmarks peers`.

Everybody runs the same scenarios (`scenarios.py`) in a process of its own, by a driver in `drivers/` that speaks the
peer's own best interface, in an environment of its own (`environments.py`) that is made on demand. They take turns within
every scenario of every round, in an order drawn from a seed, so that the figures that are compared lie close in time.
What a peer has no feature for is "–", what does not install here is named with its reason.
"""
