"""`python -m ustack` is the command `ustack`."""

from ustack.cli.main import main

main()
