"""Foreign scans in, arrays of the data contract out: the one place where units, order and centering are converted.

One module a format. Every reader returns a dict with the contract's keys, which `ptycho.data.scan.ScanWriter` takes.
"""
