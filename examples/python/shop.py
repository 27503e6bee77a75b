"""A shop's work with redis-py: shop.py [HOST [PRIMARY_PORT [READER_PORT [SECONDS]]]]

Keeps sessions, counts, queues orders and changes products on the primary, and reads products from
the reader. Nothing in here knows what runs behind the two ports.
"""
import json
import sys
import time

import redis

PRODUCTS = 20
host, primary_port, reader_port, seconds = (sys.argv[1:] + ["127.0.0.1", "7379", "7380", "10"][len(sys.argv) - 1:])[:4]

# One attempt each: an error is an error.
primary = redis.Redis(host=host, port=int(primary_port), socket_timeout=10, decode_responses=True)
reader = redis.Redis(host=host, port=int(reader_port), socket_timeout=10, decode_responses=True)


def expect(ok, otherwise):
    if not ok:
        raise RuntimeError(otherwise)


def serve(number):
    """Serves one request and returns how many commands it took."""
    visitor = f"shop:python:session:{number % 50}"
    session = json.dumps({"seen": number, "cart": [f"item-{number}"]})
    primary.setex(visitor, 1800, session)
    expect(primary.get(visitor) == session, "the session read back is another one")

    primary.incr("shop:python:counter")
    with primary.pipeline(transaction=True) as both:  # MULTI … EXEC
        both.lpush("shop:python:orders", f"order-{number}")
        both.expire("shop:python:orders", 3600)
        both.execute()
    expect(primary.brpop(["shop:python:orders"], timeout=1), "the queued order is gone")

    primary.set(f"shop:python:product:{number % PRODUCTS}", number)
    # A replica may be a moment behind: an older price is fine, and so is none for a new product.
    shown = reader.get(f"shop:python:product:{(number + 1) % PRODUCTS}")
    expect(shown is not None or number < 2 * PRODUCTS, "the product is gone")
    return 8


ops = errors = degraded = number = 0
until = time.monotonic() + float(seconds)
while time.monotonic() < until:
    try:
        ops += serve(number)
    except redis.ConnectionError as e:  # no answer at all: the page is shown without Redis
        degraded += 1
        print(f"degraded: {e}", file=sys.stderr)
    except (redis.RedisError, RuntimeError) as e:
        errors += 1
        print(f"request {number}: {e}", file=sys.stderr)
    number += 1
    time.sleep(0.005)
print(json.dumps({"ops": ops, "errors": errors, "degraded": degraded}))
