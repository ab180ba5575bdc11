"""`python -m coda` is the `coda` command."""

from coda.cli import main

main()
