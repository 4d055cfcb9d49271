"""`python -m lorweb`: the command where its script is not on the path."""

from lorweb.cli import main

if __name__ == "__main__":
    main()
