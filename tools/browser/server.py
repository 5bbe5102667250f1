"""A folder of pages, served as a static host does it: text compressed, nothing else added."""

import gzip
import threading
from contextlib import contextmanager
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

TEXT = {".html", ".css", ".js", ".svg", ".json", ".ipynb", ".txt", ".inv"}


@cache
def compressed(path):
    return gzip.compress(path.read_bytes(), 6)


class Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if path.suffix not in TEXT or not path.is_file():
            return super().do_GET()
        body = compressed(path)
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Site:
    """The pages of a folder, and its two addresses: ``http`` and ``file``."""

    def __init__(self, root, port):
        self.root = Path(root).resolve()
        self.bases = {"http": f"http://127.0.0.1:{port}/", "file": self.root.as_uri() + "/"}

    @property
    def pages(self):
        files = sorted(self.root.rglob("*.html"), key=lambda path: (path.parent == self.root, path))
        pages = [path.relative_to(self.root) for path in files if "_static" not in path.relative_to(self.root).parts]
        return [page.as_posix() for page in pages if not self.forwards(page)]

    def forwards(self, page):
        return b'http-equiv="refresh"' in (self.root / page).read_bytes()[:1000].lower()

    def owns(self, url):
        return url.startswith((*self.bases.values(), "data:", "blob:", "about:"))

    def name_of(self, url):
        """A page's or file's name below the root, or None for what is elsewhere."""
        base = next((base for base in self.bases.values() if url.startswith(base)), None)
        return None if base is None else unquote(urlsplit(url).path[len(urlsplit(base).path) :])

    def size(self, name):
        """Bytes of a file, as they lie and as they are served."""
        path = self.root / name
        if not path.is_file():
            return 0, 0
        raw = path.stat().st_size
        return raw, len(compressed(path)) if path.suffix in TEXT else raw


@contextmanager
def serve(root):
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(root))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield Site(root, server.server_port)
        finally:
            server.shutdown()
