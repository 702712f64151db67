"""`python -m thiscxr`: the same as the console script."""

from thiscxr.cli import main

if __name__ == "__main__":  # worker processes import this module again
    main()
