"""Runs a command in a terminal of its own: in_terminal.py QUESTION ANSWER COMMAND...

Once the command has printed QUESTION, types ANSWER and a line feed; with an empty QUESTION types
nothing. Prints what the command printed, and ends with its exit code.
"""

import os
import pty
import signal
import sys

question, answer, command = sys.argv[1].encode(), sys.argv[2].encode(), sys.argv[3:]
signal.alarm(60)
child, terminal = pty.fork()
if child == 0:
    os.execv(command[0], command)
printed, asked = b"", not question
while True:
    try:
        some = os.read(terminal, 4096)
    except OSError:
        break
    if not some:
        break
    printed += some
    if not asked and question in printed:
        asked = True
        os.write(terminal, answer + b"\n")
_, status = os.waitpid(child, 0)
sys.stdout.buffer.write(printed.replace(b"\r\n", b"\n"))
sys.exit(os.waitstatus_to_exitcode(status))
