"""Recover kernels: search for tables, judge candidates, choose the running one."""
