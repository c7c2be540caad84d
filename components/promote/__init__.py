"""The `promote` stage as a Kubeflow Pipelines component."""
