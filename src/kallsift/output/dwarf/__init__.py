"""Write DWARF, the debuggers' form of types, functions and variables, from the types that a kernel carries (BTF)."""
