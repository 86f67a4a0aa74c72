"""`python -m panini.cli`."""

from panini.cli.app import main

main()
