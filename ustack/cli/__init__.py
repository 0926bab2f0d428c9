"""The command `ustack`: one file per subcommand, each built on the public API only."""
