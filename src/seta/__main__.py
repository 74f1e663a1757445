"""`python -m seta` is the `seta` command."""

from seta.cli import main

if __name__ == "__main__":
    main()
