"""Read saved lists of symbols, in text and in ELF files."""
