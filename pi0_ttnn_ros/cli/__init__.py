"""The `pi0-ttnn` command line: parsing, exit codes, printing; one module per command."""
