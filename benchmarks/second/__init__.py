"""Second methods: programs that say without our code whether a program is right, so that verdicts can be checked.

    python -m benchmarks.second --source DIR                                   # gold and near misses of it
    python -m benchmarks.second --explored DIR --collection DIR                # what a model wrote

`methods.py` has one for each of six notations, `databases.py` makes those that queries are compared on. They are no part
of the library, and what they need is a development dependency: a second opinion decides no verdict. Where the two differ,
neither is right by itself; `tests/judging/second.csv` has those that were decided by hand.
"""
