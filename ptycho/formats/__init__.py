"""Scans, objects and probes in files of other programs: what is read is converted to the data contract here alone.

`registry` has the table of formats, `readers` a module for each. `conversion` turns what a reader has opened into a
file of the contract. `images` reads samples and probes for simulated studies.
"""
