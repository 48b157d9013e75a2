# SPDX-License-Identifier: Apache-2.0
"""Checks the accessibility of a page with axe-core, and measures how long it takes to open.

    npm install axe-core
    python scripts/check_page.py OUT/report.html [lineage.html …] --axe node_modules/axe-core/axe.min.js [--dark]

Requires Chromium. Prints each fault of axe-core with the elements it concerns, and in one line of JSON for each page
the number of faults by impact, and the milliseconds until the text can be read and until the plots are drawn,
and the elements that make the page wider than the window.

Exit status: 0 no serious or critical fault; 1 some; 2 Chromium or a file is missing.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from typing import Any, ClassVar

# Runs when the page and its plots are complete, and sends the result.
PROBE = """
<script>
window.addEventListener("load", async () => {
  const [entry] = performance.getEntriesByType("navigation");
  const root = document.documentElement;
  if (document.getElementById("packed-plotly"))
    while (!root.dataset.ready) await new Promise((done) => setTimeout(done, 5));
  const complete = performance.now();
  const wide = root.scrollWidth <= root.clientWidth ? [] : [...document.body.querySelectorAll("*")]
    .filter((e) => e.getBoundingClientRect().right > root.clientWidth + 1)
    .filter((e) => { for (let p = e.parentElement; p; p = p.parentElement)
        if (getComputedStyle(p).overflowX !== "visible" && p !== document.body) return false;
      return true; })
    .map((e) => `${e.tagName} ${e.className?.baseVal ?? e.className}: ${Math.round(e.getBoundingClientRect().right)}`);
  const found = await axe.run(document, { resultTypes: ["violations"] });
  await fetch("/result", { method: "POST", body: JSON.stringify({
    readable: entry.domContentLoadedEventEnd, complete, wide,
    faults: found.violations.map((fault) => ({
      id: fault.id, impact: fault.impact, help: fault.help,
      nodes: fault.nodes.map((node) => node.target.join(" ") + ": " + (node.any[0]?.message ?? "")),
    })),
  }) });
});
</script>
"""


class _Page(BaseHTTPRequestHandler):
    """Serves one page, and receives the result."""

    content: ClassVar[bytes] = b""
    result: ClassVar[Queue[dict[str, Any]]] = Queue()

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/" else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(self.content if self.path == "/" else b"")

    def do_POST(self) -> None:
        self.result.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


def check_page(chromium: str, page: Path, axe: str, dark: bool, width: int) -> dict[str, Any]:
    """Opens a page with axe-core in Chromium.

    Returns:
        The faults, the elements that make the page wider than the window, and the times `readable` and `complete` in
        milliseconds.
    """
    # At the end, so that the time until the page is readable is its own.
    text = page.read_text(encoding="utf-8").replace("</body>", "") + f"<script>{axe}</script>{PROBE}"
    _Page.content = text.encode()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        command = [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
            "--no-first-run", f"--window-size={width},1500", f"--user-data-dir={folder}",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--remote-debugging-port=0",
            f"http://127.0.0.1:{server.server_port}/",
        ]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            return _Page.result.get(timeout=120)
        except Empty as error:
            raise RuntimeError(f"{page} must open in Chromium within two minutes; it did not.") from error
        finally:
            process.terminate()
            process.wait()
            server.shutdown()


def main() -> int:
    """Checks the pages; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", type=Path, nargs="+")
    parser.add_argument("--axe", type=Path, required=True, help="axe.min.js of the npm package axe-core")
    parser.add_argument("--dark", action="store_true", help="prefer the dark colour scheme")
    parser.add_argument("--width", type=int, default=1280)
    options = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    missing = [path for path in (*options.pages, options.axe) if not path.is_file()]
    if chromium is None or missing:
        print(f"Chromium and every file must be there; missing: {missing or 'Chromium'}.", file=sys.stderr)
        return 2
    serious = 0
    for page in options.pages:
        found = check_page(chromium, page, options.axe.read_text(encoding="utf-8"), options.dark, options.width)
        impacts: dict[str, int] = {}
        for fault in found["faults"]:
            impacts[fault["impact"]] = impacts.get(fault["impact"], 0) + 1
            print(f"{page.name}: {fault['impact']}: {fault['id']}: {fault['help']}")
            for node in fault["nodes"][:8]:
                print(f"    {node}")
        serious += impacts.get("serious", 0) + impacts.get("critical", 0)
        wide = found["wide"][:5]
        times = {f"{name}_ms": round(found[name]) for name in ("readable", "complete")}
        print(json.dumps({"page": page.name, "bytes": page.stat().st_size, "faults": impacts, "wide": wide, **times}))
    return 1 if serious else 0


if __name__ == "__main__":
    sys.exit(main())
