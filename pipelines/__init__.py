"""Kubeflow pipelines: what is composed of components, how it is compiled, submitted, or run on this machine."""
