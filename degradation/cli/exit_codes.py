"""Exit statuses of the commands."""

DONE, RUN_FAILED, USE_ERROR, INTERRUPTED = 0, 1, 2, 130
BROKEN_PIPE = 141  # 128 + SIGPIPE, as a shell reports for a program whose reader has closed
