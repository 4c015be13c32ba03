"""Every reader of files, given damaged ones: it reads them, or refuses them in one line that names the file.

`damage*.py` damage a file, `originals*.py` write intact ones, `entry_points.py` lists the readers, `runner.py` runs
them in processes with limits, `corpus/` keeps damaged files that were once misread. One input, again:

    python -m tests.fuzz scan --seed 739582 --number 17
"""
