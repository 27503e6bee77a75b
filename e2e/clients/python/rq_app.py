"""rq: this process queues jobs, `rq worker` does them, each in a process of its own.

rq promises that a job that was queued is done, unless its worker dies between the pop and its first note of
the job. A worker that ends because of an error is started anew here, as a supervisor does, and counted."""
import os
import platform
import shutil
import subprocess
import sys
import threading

import redis
import rq

from record import Record, compare, done, eventually, port

BACKLOG = 20  # jobs that wait at most, so that they are done soon after the last was queued

host, key = os.environ["CLIENT_HOST"], os.environ["CLIENT_KEY"]
queue = rq.Queue(key, connection=redis.Redis(host=host, port=port("PRIMARY")))
r = Record(f"rq {rq.version.VERSION}, redis-py {redis.__version__}, Python {platform.python_version()}")


class Supervisor(threading.Thread):
    """Runs the worker, and starts it anew when it ends."""

    def __init__(self):
        super().__init__(daemon=True)
        self.ends, self.restarts, self.worker = False, -1, None

    def run(self):
        here = os.path.dirname(os.path.abspath(__file__))
        while not self.ends:
            self.restarts += 1
            self.worker = subprocess.Popen(
                [sys.executable, "-B", shutil.which("rq"), "worker", "--url", f"redis://{host}:{port('PRIMARY')}/0",
                 "--quiet", "--path", here, key], stdout=sys.stderr)
            self.worker.wait()

    def stop(self):
        self.ends = True
        self.worker.terminate()  # it finishes its job first
        self.join(timeout=8)
        self.worker.kill()


supervisor = Supervisor()
supervisor.start()
acked, n = [], 0
while r.another():
    waiting = r.op("count", True, lambda: queue.count)
    if waiting is None or waiting >= BACKLOG:
        continue
    n += 1
    if r.op("enqueue", False, lambda: queue.enqueue("record.note_done", n, result_ttl=60)):
        acked.append(n)
eventually(15, lambda: compare(acked, done())[0] == 0)
supervisor.stop()
r.lost, r.doubled = compare(acked, done())
r.check(supervisor.restarts == 0, f"the worker ended {supervisor.restarts} times")
r.note = f"{len(acked)} jobs"
r.finish()
