"""The foundation of all parts: errors, files and their checksums, names, progress, memory, tables."""
