"""Write the kernel's types, functions and variables as DWARF for debuggers."""
