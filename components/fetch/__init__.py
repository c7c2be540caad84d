"""The `fetch` stage as a Kubeflow Pipelines component."""
