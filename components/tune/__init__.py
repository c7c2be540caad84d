"""The `tune` stage as a Kubeflow Pipelines component."""
