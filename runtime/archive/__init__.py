"""An archive on this machine: names in, rows out, by shards, and after a kill where it was."""
