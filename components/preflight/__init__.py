"""The first look at a cluster as a Kubeflow Pipelines component."""
