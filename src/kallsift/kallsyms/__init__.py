"""Find, decode and prove the kallsyms tables. This package knows nothing of files."""
