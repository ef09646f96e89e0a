"""Find, decode and prove the kallsyms tables. Knows nothing of files."""
