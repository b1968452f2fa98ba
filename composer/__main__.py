"""`python -m composer`: the command line where another program is called composer already."""

from composer.cli import main

if __name__ == "__main__":
    main()
