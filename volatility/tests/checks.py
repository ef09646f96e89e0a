"""What each plugin's rows are compared with; plugins without a check only have to run to their end."""

from __future__ import annotations

from collections.abc import Callable

import checks_kernel as kernel
import checks_network as network
import checks_processes as processes
from runner import Rows
from truth import Truth

CHECKS: dict[str, Callable[[Rows, Truth], None]] = {
    "linux.bash.Bash": processes.check_history,
    "linux.boottime.Boottime": kernel.check_boot_time,
    "linux.ebpf.EBPF": kernel.check_programs,
    "linux.envars.Envars": processes.check_environments,
    "linux.ip.Addr": network.check_addresses,
    "linux.ip.Link": network.check_links,
    "linux.kthreads.Kthreads": processes.check_kernel_threads,
    "linux.library_list.LibraryList": processes.check_libraries,
    "linux.lsmod.Lsmod": kernel.check_modules,
    "linux.lsof.Lsof": processes.check_files,
    "linux.malware.check_syscall.Check_syscall": kernel.check_system_calls,
    "linux.malware.hidden_modules.Hidden_modules": kernel.check_hidden,
    "linux.malware.malfind.Malfind": processes.check_injected_code,
    "linux.malware.netfilter.Netfilter": network.check_hooks,
    "linux.mountinfo.MountInfo": kernel.check_mounts,
    "linux.pidhashtable.PIDHashTable": processes.check_processes,
    "linux.proc.Maps": processes.check_maps,
    "linux.psaux.PsAux": processes.check_arguments,
    "linux.pslist.PsList": processes.check_processes,
    "linux.pstree.PsTree": processes.check_tree,
    "linux.ptrace.Ptrace": processes.check_tracers,
    "linux.sockstat.Sockstat": network.check_sockets,
    "linux.tracing.ftrace.CheckFtrace": kernel.check_function_hooks,
}
"""Comparisons with the guest's truth by plugin; each raises AssertionError."""
