"""The `select` stage as a Kubeflow Pipelines component."""
