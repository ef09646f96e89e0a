"""The types that a kernel carries of itself (BTF), of its modules too, and the types of its symbols."""
