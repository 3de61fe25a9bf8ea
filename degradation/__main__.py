"""``python -m degradation``: the command."""

from degradation.commands import main

if __name__ == "__main__":
    main()
