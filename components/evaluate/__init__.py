"""The `evaluate` stage as a Kubeflow Pipelines component."""
