"""Write an ELF file with the kernel's memory and symbols."""
