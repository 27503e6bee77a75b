"""celery with Redis as broker and as store of results: this process sends tasks and asks for results, celery's
own worker does them.

celery acks a task before it runs it unless told otherwise; with acks_late, as here, a task is done at least
once: what a worker took and did not ack is delivered anew after visibility_timeout."""
import os
import platform
import subprocess
import sys

import celery
import redis

from record import Record, compare, done, eventually, note_done, port

BACKLOG = 20  # tasks that wait at most, so that they are done soon after the last was sent

url = f"redis://{os.environ['CLIENT_HOST']}:{port('PRIMARY')}/1"
app = celery.Celery("celery_app", broker=url, backend=url)
app.conf.update(task_acks_late=True, broker_connection_retry_on_startup=True, result_expires=600,
                broker_transport_options={"visibility_timeout": 6}, worker_hijack_root_logger=False)


@app.task(name="deliver")
def deliver(n):
    note_done(n)
    return n


def main():
    r = Record(f"celery {celery.__version__}, redis-py {redis.__version__}, Python {platform.python_version()}")
    worker = subprocess.Popen(
        [sys.executable, "-B", "-m", "celery", "-A", "celery_app", "worker", "--pool", "prefork", "--concurrency", "1", "--loglevel", "WARNING"],
        stdout=sys.stderr, cwd=os.path.dirname(os.path.abspath(__file__)), env={**os.environ, "C_FORCE_ROOT": "1"})
    if not eventually(30, lambda: app.control.ping(timeout=0.5)):
        r.check(False, "the worker does not start")
    acked, n = [], 0
    while r.another():
        if n >= len(done()) + BACKLOG:
            continue
        n += 1
        sent = r.op("delay", False, lambda: deliver.delay(n))
        if not sent:
            continue
        acked.append(n)
        if n % 4 == 0:  # what was done is asked for, and waited for over pub/sub
            got = r.op("get the result", True, lambda: sent.get(timeout=20))
            r.check(got in (None, n), f"the result of task {n} is {got}")
    eventually(20, lambda: compare(acked, done())[0] == 0)
    r.check(worker.poll() is None, "the worker has ended")
    worker.terminate()
    try:
        worker.wait(timeout=8)
    except subprocess.TimeoutExpired:
        worker.kill()
    r.lost, twice = compare(acked, done())
    r.note = f"{len(acked)} tasks, {twice} of them done twice"
    r.finish()


if __name__ == "__main__":
    main()
