"""What is remembered of runs: MLflow runs, registered models and their gate, data sets under version."""
