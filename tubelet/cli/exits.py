"""The exit codes that are not click's own."""

EXIT_PARITY = 3
