"""The solver: several programs are sampled, each is run, the values are put to a vote.

`python -m serving` starts it, `python -m serving.ask` asks it.
"""
