"""The `tune` stage on several nodes, as a Kubeflow Pipelines component that starts a job and follows it."""
