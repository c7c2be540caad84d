"""The `merge` stage as a Kubeflow Pipelines component."""
