"""Building the collection: sources, cleaning, splits, renamed copies, the data card, programs written by a stronger model."""
