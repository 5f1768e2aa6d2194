"""Serves a WSGI app that says what it received, with the server and port of the command line.

The response to `GET /requests` lists all other requests since the start.
"""

import sys


def serve_waitress(app, port):
    import waitress

    waitress.serve(app, host="127.0.0.1", port=port)


def serve_cheroot(app, port):
    from cheroot import wsgi

    wsgi.Server(("127.0.0.1", port), app).start()


requests = []


def app(environ, start_response):
    body = environ["wsgi.input"].read()
    path = environ["PATH_INFO"]
    if path != "/requests":
        requests.append(
            f"{environ['REQUEST_METHOD']} {path} {body.decode('latin-1')}".strip()
        )
    answer = "\n".join(requests).encode("latin-1")
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))]
    start_response("200 OK", headers)
    return [answer]


{"waitress": serve_waitress, "cheroot": serve_cheroot}[sys.argv[1]](
    app, int(sys.argv[2])
)
