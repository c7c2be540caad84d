"""The `version` stage as a Kubeflow Pipelines component."""
