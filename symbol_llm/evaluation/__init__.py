"""Measuring a checkpoint: accuracy on dev and test problems, general ability, suites, the report page."""
