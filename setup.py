"""List the packages by rule: every folder with an `__init__.py` below the root is a room of `clinvit`."""

from setuptools import find_packages, setup

setup(packages=["clinvit", *(f"clinvit.{room}" for room in find_packages())])
