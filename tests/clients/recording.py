"""What both ends of a recorded conversation share: a connection that notes every frame it gets."""


def recorder(connection, frames):
    """A subclass of `connection` that appends each received frame to `frames`."""

    class Recorded(connection):
        def process_event(self, event):
            # The events before the first frame are the opening handshake.
            if hasattr(event, "opcode"):
                frames.append(
                    {"opcode": event.opcode.name, "fin": event.fin, "data": bytes(event.data).hex()}
                )
            super().process_event(event)

    return Recorded
