"""The `replay` stage as a Kubeflow Pipelines component."""
