"""The commands of `tubelet`, one file each: options, one call into the library, and what to print."""
