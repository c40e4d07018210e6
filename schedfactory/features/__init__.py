"""GUESTS: what a queue can do besides claiming and running. None imports another; each stands in one list, in `house.py`."""
