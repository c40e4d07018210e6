"""`python -m schedfactory` is the command `schedfactory`."""

from schedfactory.cli import main

if __name__ == "__main__":
    main()
