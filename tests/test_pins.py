"""The pins of `constraints.txt` can be installed with every Python that the package says it runs on."""

import re
import tomllib
from importlib.metadata import distributions
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def test_no_pin_wants_a_newer_python_than_the_package() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    oldest = f"{wanted.removeprefix('>=')}.0"  # Debian 12 has 3.11.2, and pip refuses a pin that asks for 3.11.5
    pins = re.findall(r"^([\w.-]+)==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    pinned = {canonicalize_name(name): version for name, version in pins}
    found = [one for one in distributions() if pinned.get(canonicalize_name(one.name)) == one.version]
    assert len(found) > 200
    pythons = {one.name: one.metadata["Requires-Python"] for one in found if "Requires-Python" in one.metadata}
    assert {name: python for name, python in pythons.items() if not SpecifierSet(python).contains(oldest)} == {}
