"""Prints every Ethernet frame that an interface hands to its host, in hexadecimal.

Argument: the interface. The first line says `listening`.
"""

import socket
import sys

ETH_P_ALL = 3
# linux/if_packet.h: a frame that this host itself sends.
PACKET_OUTGOING = 4

with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as wire:
    wire.bind((sys.argv[1], ETH_P_ALL))
    print("listening", flush=True)
    while True:
        frame, address = wire.recvfrom(65536)
        if address[2] != PACKET_OUTGOING:
            print(frame.hex(), flush=True)
