"""The last task of a run as a Kubeflow Pipelines component."""
