"""Stands for Streamlit and for uvicorn: starts as fast as Python can, is healthy, and has processes of its own.

One of its processes leaves the process group and the session, as a daemon does. On SIGTERM it writes a line, and takes a moment
to end. Like Streamlit, whose event loop catches the error, it goes on if the line cannot be written.
"""

import os
import signal
import socket
import subprocess
import sys
import time


def end(*_):
    try:
        print("stopping", flush=True)
    except OSError:
        return
    time.sleep(0.05)
    os._exit(0)


signal.signal(signal.SIGTERM, end)
port = int(sys.argv[[argument in ("--port", "--server.port") for argument in sys.argv].index(True) + 1])
subprocess.Popen(["sleep", "1000"])
subprocess.Popen(["sleep", "1000"], start_new_session=True)
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("127.0.0.1", port))
server.listen()
print("listening", flush=True)
while True:
    client, _ = server.accept()
    with client:
        client.recv(65536)
        client.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
