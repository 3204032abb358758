"""Sends raw Ethernet frames.

Argument: the interface. Standard input: one frame in hexadecimal per line. Prints how many frames
were sent.
"""

import socket
import sys

with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
    wire.bind((sys.argv[1], 0))
    sent = 0
    for line in sys.stdin:
        wire.send(bytes.fromhex(line))
        sent += 1
print(sent)
