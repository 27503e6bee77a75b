"""What a client program saw: each operation's time and outcome, and at its end one line of JSON for the
driver (../../clients_test.go)."""
import collections
import contextlib
import json
import os
import time


class Record:
    def __init__(self, version):
        self.version = version
        self.ops = 0
        self.unknown = 0  # answers that say that the outcome is not known, to what may not run twice
        self.lost = 0     # acked, and not there
        self.doubled = 0  # done more often than asked for
        self.errors = []
        self.longest = 0.0  # ms of the slowest operation
        self.note = ""
        self._rounds = 0

    def op(self, what, repeatable, does):
        """Runs one operation. repeatable: running it twice would be as good as once. None after an error."""
        self.ops += 1
        begin = time.monotonic()
        try:
            return does()
        except Exception as e:
            self.failed(what, repeatable, f"{type(e).__name__}: {e}")
            return None
        finally:
            self.longest = max(self.longest, (time.monotonic() - begin) * 1000)

    def failed(self, what, repeatable, message):
        if not repeatable and "UNKNOWN" in message:
            self.unknown += 1
        else:
            self.errors.append(f"{what}: {message}")

    def check(self, ok, otherwise):
        if not ok:
            self.errors.append(otherwise)

    def another(self):
        """Ends a round: tells the driver, rests, and says whether there is to be another one."""
        if self._rounds:
            print("round", flush=True)
            time.sleep(int(os.environ["CLIENT_PAUSE_MS"]) / 1000)
        self._rounds += 1
        return not os.path.exists(os.environ["CLIENT_STOP"])

    def finish(self):
        print(json.dumps({
            "version": self.version, "ops": self.ops, "errors": self.errors[:20], "failed": len(self.errors),
            "unknown": self.unknown, "lost": self.lost, "doubled": self.doubled,
            "longest_ms": round(self.longest, 1), "note": self.note}), flush=True)


def eventually(seconds, holds):
    """Waits until the condition holds, at most so many seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if holds():
            return True
        time.sleep(0.02)
    return False


def port(endpoint):
    return int(os.environ[f"CLIENT_{endpoint}_PORT"])


def done_file():
    return os.path.join(os.environ["CLIENT_DIR"], "done")


def note_done(n):
    """What a job does: it notes its number outside of Redis."""
    with open(done_file(), "a") as f:
        f.write(f"{n}\n")


def done():
    with contextlib.suppress(FileNotFoundError), open(done_file()) as f:
        return [int(line) for line in f.read().split()]
    return []


def compare(acked, did):
    """How many of the acked were not done, and how often something was done again."""
    times = collections.Counter(did)
    return sum(1 for n in acked if n not in times), sum(n - 1 for n in times.values())
