"""Measuring a checkpoint: held-out accuracy, general ability, suites, the report page."""
