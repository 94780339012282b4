"""Runs a command as systemd does: `launch.py LIMIT_NOFILE FD COMMAND...`.

FD becomes descriptor 3, as LISTEN_PID and LISTEN_FDS say; -1 stands for no socket. A script, since
LISTEN_PID has to be the process that the command becomes.
"""

import os
import resource
import sys

limit, descriptor, *command = sys.argv[1:]
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
soft = int(limit) if hard == resource.RLIM_INFINITY else min(int(limit), hard)
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
if int(descriptor) >= 0:
    os.dup2(int(descriptor), 3)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(command[0], command)
