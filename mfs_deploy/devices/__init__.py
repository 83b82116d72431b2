"""Phones on a cable: what puts a bundle on one, has it measured there, and brings the answer back.

phone.py     what a phone is to the rest of this package, and its report, checked
android.py   two ways to measure: mfs-bench-device by adb, or the demo app
ios.py       the demo app, by Apple's devicectl
adb.py, devicectl.py, tool.py   the programs that do the talking, and what their refusals mean
"""
