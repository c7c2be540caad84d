"""The `explore` stage as a Kubeflow Pipelines component."""
