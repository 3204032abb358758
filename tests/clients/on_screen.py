"""Runs a command in a terminal of 80 by 24 of its own: on_screen.py STEPS COMMAND...

STEPS is a JSON list of pairs: once the command has printed the first since the step before, the second
is typed. Escape sequences are left out before it is looked at. Prints everything without them, and what
the terminal was left in as a last line; ends with the exit code of the command.
"""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import sys
import termios

steps, command = json.loads(sys.argv[1]), sys.argv[2:]
ESCAPES = re.compile(rb"\x1b(\[[0-9;?]*[A-Za-z]|[()][A-Z0-9]|[=>78])")


def late(*_):
    sys.stdout.buffer.write(ESCAPES.sub(b"", raw))
    print(f"\nnot in time: {steps}")
    sys.stdout.flush()
    os.kill(child, signal.SIGKILL)
    os._exit(1)


raw, seen = b"", 0
signal.signal(signal.SIGALRM, late)
signal.alarm(60)
child, terminal = pty.fork()
if child == 0:
    os.environ["TERM"] = "xterm-256color"
    os.execv(command[0], command)
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
while True:
    try:
        some = os.read(terminal, 4096)
    except OSError:
        break
    if not some:
        break
    raw += some
    # A sequence can be cut in two by a read; it is whole when the next one has come.
    shown = ESCAPES.sub(b"", raw)
    while steps and steps[0][0].encode() in shown[seen:]:
        _, typed = steps.pop(0)
        seen = len(shown)
        os.write(terminal, typed.encode())
_, status = os.waitpid(child, 0)
sys.stdout.buffer.write(ESCAPES.sub(b"", raw))
left = "alternate" if raw.rfind(b"\x1b[?1049h") > raw.rfind(b"\x1b[?1049l") else "main"
print(f"\nleft in the {left} screen; steps left: {len(steps)}")
sys.exit(os.waitstatus_to_exitcode(status))
