"""Adds to setup.cfg what it cannot say: the package's folders are found, and two folders of data from beside it go inside."""

import tempfile

from setuptools import find_namespace_packages, setup

BESIDE = {
    "mfs_deploy.export_configs": ["*.toml"],
    "mfs_deploy.models": ["*/card.toml", "demo/weights/*.safetensors"],
}
INSIDE = {"mfs_deploy": ["py.typed"], "mfs_deploy.devices.arm64": ["*.c"], "mfs_deploy.report": ["*.css", "*.html"]}

with tempfile.TemporaryDirectory() as scratch:
    setup(
        packages=[*find_namespace_packages(include=["mfs_deploy*"]), *BESIDE],
        package_dir={name: name.removeprefix("mfs_deploy.") for name in BESIDE},
        package_data={**BESIDE, **INSIDE},  # setup.cfg's own table of these would not be read beside this one
        options={"build": {"build_base": scratch}},  # a folder that stays would put modules of former versions into the wheel
    )
