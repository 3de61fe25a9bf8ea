"""The command from a checkout: ``python cli.py run quickstart`` (the app is degradation/commands.py)."""

from degradation.cli import main

if __name__ == "__main__":
    main()
