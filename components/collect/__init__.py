"""The `collect` stage as a Kubeflow Pipelines component."""
