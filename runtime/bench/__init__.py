"""Time, memory and start of a bundle on this machine, each subject in a process of its own."""
