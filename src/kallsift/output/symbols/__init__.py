"""Write the symbol table, in one module for each form."""
