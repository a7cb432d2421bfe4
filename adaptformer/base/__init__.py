"""What every part stands on: errors, files and their checksums, names, progress, memory, tables."""
