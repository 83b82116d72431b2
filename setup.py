"""Adds to setup.cfg what it cannot say: the package's folders are found, and two folders of data from beside it go inside."""

from setuptools import find_namespace_packages, setup

DATA = {
    "mfs_deploy.export_configs": ["*.toml"],
    "mfs_deploy.models": ["*/card.toml", "demo/weights/*.safetensors"],
}

setup(
    packages=[*find_namespace_packages(include=["mfs_deploy*"]), *DATA],
    package_dir={name: name.removeprefix("mfs_deploy.") for name in DATA},
    package_data=DATA,
)
