"""The command `pi0-ttnn`: parsing, exit statuses and printing; one module per sub-command."""
