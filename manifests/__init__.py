"""Kustomize manifests (plain YAML) and `check.py`, which renders every overlay and looks for faults."""
