"""How a command ended -> the exit status that the shell sees."""

DONE, RUN_FAILED, USE_ERROR, INTERRUPTED = 0, 1, 2, 130
BROKEN_PIPE = 141  # 128 + SIGPIPE: what a shell reports of a program whose reader went away
