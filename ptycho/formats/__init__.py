"""Readers of foreign scans: the only place where units, axis order and centering are converted to the data contract.

One module per format. Readers of scans return a dict with the contract's keys, for `ptycho.data.scan.ScanWriter`;
`images` reads samples and probes.
"""
