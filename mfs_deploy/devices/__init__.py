"""Phones on a cable, and emulated ones: copy a bundle there, measure it, fetch the report.

phone.py     the interface of a phone, and the check of its report
android.py   two ways to measure: mfs-bench-device by adb, or the demo app
ios.py       the demo app, by Apple's devicectl
adb.py, devicectl.py, run_tool.py   the tools that talk to phones, and the meaning of their errors
arm64/       the runtimes' arm64 builds in an emulator
"""
