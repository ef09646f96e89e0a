"""Tell whether a module's file would load into a kernel."""
