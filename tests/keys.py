"""Keys for signatures, made as the guide says."""

import subprocess
from pathlib import Path


def key_pair(folder: Path, name: str = "signing") -> tuple[Path, Path]:
    """Make a private key and its public one in `folder`."""
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    made = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", private]
    subprocess.run(made, check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
    return private, public
