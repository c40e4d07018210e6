"""How fast it is, on this machine: `python -m benchmarks`.

One file for each group of scenarios. A scenario is a function that takes a `Bench`, does something for a second or so, and
returns figures: numbers with a name and a unit. They take turns, round after round, so that a busy moment of the machine
hits all of them; what counts is the median over the rounds.
"""
