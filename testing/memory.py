"""Peak memory, for scripts that tests run in a process of their own."""

# Not `ru_maxrss`: Linux keeps the larger of the two over exec, so a child starts at its parent's peak.
PEAK = '''
def peak():
    """Most memory this process has held, in KiB."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
'''
