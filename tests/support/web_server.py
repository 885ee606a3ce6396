"""A web server on the loopback address that answers with what a function gives for a path."""

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

# A path -> the status, the kind of content, and the content: whole, or part by part without its length.
Answer = Callable[[str], tuple[int, str, bytes | Iterator[bytes]]]


@contextmanager
def web_server(answer: Answer) -> Iterator[str]:
    """The address of the server, until the block ends."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, kind, content = answer(self.path)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            if isinstance(content, bytes):
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with suppress(ConnectionError):
                for part in [content] if isinstance(content, bytes) else content:
                    self.wfile.write(part)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
