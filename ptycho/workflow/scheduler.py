"""A rough time to go, after every job of a run."""

import logging
import sys
import time

EVENT = "progress"
"""Snakemake's name of it; the record has the numbers of jobs `done` and in `total`."""


class TimeToGo(logging.Handler):
    """Handler of Snakemake's log that says how many jobs are left and, at the pace so far, how long they take.

    Jobs are not alike, so the first ones of a study, which are short, promise too much.

    Parameters
    ----------
    clock : callable
        Seconds, monotonic.
    """

    def __init__(self, clock=time.monotonic):
        super().__init__()
        self.clock, self.start = clock, clock()

    def emit(self, record: logging.LogRecord) -> None:
        """Say it, once some jobs are done and some are left."""
        if str(getattr(record, "event", "")) != EVENT or not 0 < record.done < record.total:
            return
        left = record.total - record.done
        seconds = (self.clock() - self.start) / record.done * left
        print(f"{record.done} jobs done, {left} left, roughly {_words(seconds)} to go", file=sys.stderr, flush=True)


def _words(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
