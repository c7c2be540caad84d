"""Where model-written text is run: processes of its own, confined, with every limit set."""
