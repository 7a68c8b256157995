"""Stands in for `gpt2` on PATH where many commands are run: asks warm_server.py for a process that has begun already.

Its standard streams, directory, environment and words go over; its status, or the signal that ended it, comes back.
Where there is no server, status 70.
"""

import json
import os
import signal
import socket
import sys


def main() -> None:
    """Run the command and end as it did."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ["WARM_SERVER"])
        asked = json.dumps({"arguments": sys.argv[1:], "directory": os.getcwd(), "environment": dict(os.environ)})
        data = os.fsencode(asked)
        socket.send_fds(connection, [len(data).to_bytes(4, "big")], [0, 1, 2])
        connection.sendall(data)
        for number in (0, 1, 2):
            os.close(number)  # a reader of ours is to see the end when the command has ended
        status = connection.recv(4)
    code = int.from_bytes(status, "big", signed=True) if len(status) == 4 else 70
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


main()
