"""``python -m degradation``: the command."""

from degradation.cli import main

if __name__ == "__main__":
    main()
