"""Which backend runs a bundle best on a machine: the record that `tubelet tune` leaves, and `auto`, which reads it."""
