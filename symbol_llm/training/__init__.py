"""Making the next checkpoint: explore, select, replay, tune."""
