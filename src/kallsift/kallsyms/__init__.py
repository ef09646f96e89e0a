"""The kallsyms engine: tables found, decoded and proved. Knows nothing of files."""
