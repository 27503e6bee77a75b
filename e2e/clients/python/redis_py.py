"""redis-py as applications use it: a pool, pipelines, transactions, a queue with BRPOP, a subscriber in a
thread of its own."""
import os
import platform
import threading

import redis

from record import Record, compare, eventually, port

host, key = os.environ["CLIENT_HOST"], os.environ["CLIENT_KEY"]
primary, reader, split = (redis.Redis(host=host, port=port(e), decode_responses=True) for e in ("PRIMARY", "READER", "SPLIT"))
r = Record(f"redis-py {redis.__version__}, Python {platform.python_version()}")


class Subscriber(threading.Thread):
    """Listens until it is told to end. When its connection is lost redis-py says so, and subscribes again as it
    is asked for the next message."""

    def __init__(self):
        super().__init__(daemon=True)
        self.heard, self.again, self.ends = 0, 0, False
        self.pubsub = primary.pubsub()
        self.pubsub.subscribe(f"{key}:news")

    def run(self):
        while not self.ends:
            try:
                m = self.pubsub.get_message(timeout=0.2)
            except redis.ConnectionError:
                self.again += 1
                continue
            if m and m["type"] == "message":
                self.heard = int(m["data"])


def both(n):
    with primary.pipeline(transaction=True) as p:
        return p.set(f"{key}:both", n).sadd(f"{key}:seen", n).execute()


def many(n):
    with primary.pipeline(transaction=False) as p:
        for i in range(5):
            p.set(f"{key}:many:{i}", n).get(f"{key}:many:{i}")
        return p.execute()


subscriber = Subscriber()
subscriber.start()
add = primary.register_script("return redis.call('HINCRBY', KEYS[1], ARGV[1], 1)")
values, members, pushed, popped = {}, [], [], []
counted = maybe_counted = maybe_popped = n = 0
while r.another():
    n += 1
    at = f"{key}:value:{n % 50}"
    if r.op("SET", True, lambda: primary.set(at, n)):
        values[at] = n
        got = r.op("GET", True, lambda: primary.get(at))
        r.check(got is None or int(got) == n, f"GET gave {got} after SET {n}")
    unknown = r.unknown
    if r.op("INCR", False, lambda: primary.incr(f"{key}:count")):
        counted += 1
    maybe_counted += r.unknown - unknown
    if r.op("LPUSH", False, lambda: primary.lpush(f"{key}:jobs", n)):
        pushed.append(n)
    unknown = r.unknown
    job = r.op("BRPOP", False, lambda: primary.brpop([f"{key}:jobs"], timeout=1))
    if job:
        popped.append(int(job[1]))
    maybe_popped += r.unknown - unknown
    if r.op("EXEC", False, lambda: both(n)):
        members.append(n)
    replies = r.op("pipeline", True, lambda: many(n))
    r.check(replies is None or int(replies[9]) == n, "the pipeline's answers came in another order")
    r.op("EVALSHA", False, lambda: add(keys=[f"{key}:script"], args=["runs"]))
    r.op("PUBLISH", True, lambda: primary.publish(f"{key}:news", n))
    if r.op("SET on split", True, lambda: split.set(f"{key}:split", n)):
        got = r.op("GET on split", True, lambda: split.get(f"{key}:split"))
        r.check(got is None or int(got) == n, f"split gave {got} after SET {n}")
    r.op("GET on reader", True, lambda: reader.get(at))  # may be a moment behind


def hears():
    primary.publish(f"{key}:news", n + 1)
    return subscriber.heard == n + 1


r.check(eventually(5, hears), "the subscriber hears nothing any more")
subscriber.ends = True
r.lost += sum(1 for at, v in values.items() if int(r.op("GET", True, lambda: primary.get(at)) or 0) != v)
count = int(r.op("GET", True, lambda: primary.get(f"{key}:count")) or 0)
r.lost += max(0, counted - count)
r.doubled += max(0, count - counted - maybe_counted)
lost, _ = compare(members, [int(m) for m in primary.smembers(f"{key}:seen")])
left = [int(j) for j in primary.lrange(f"{key}:jobs", 0, -1)]
gone, twice = compare(pushed, popped + left)
r.lost += lost + max(0, gone - maybe_popped)
r.doubled += twice
if subscriber.again:
    r.note = f"subscribed anew {subscriber.again} times"
r.finish()
