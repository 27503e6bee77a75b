# A shop's work with redis-rb: ruby shop.rb [HOST [PRIMARY_PORT [READER_PORT [SECONDS]]]]
#
# Keeps sessions, counts, queues orders and changes products on the primary, and reads products from
# the reader. Nothing in here knows what runs behind the two ports.
require "json"
require "redis"

PRODUCTS = 20
host, primary_port, reader_port, seconds = ARGV + %w[127.0.0.1 7379 7380 10].drop(ARGV.length)

# One attempt each: an error is an error.
open = ->(port) { Redis.new(host: host, port: port.to_i, timeout: 10, connect_timeout: 1, reconnect_attempts: 0) }
PRIMARY = open.call(primary_port)
READER = open.call(reader_port)

def expect(ok, otherwise)
  raise otherwise unless ok
end

# Serves one request and returns how many commands it took.
def serve(number)
  visitor = "shop:ruby:session:#{number % 50}"
  session = JSON.generate(seen: number, cart: ["item-#{number}"])
  PRIMARY.setex(visitor, 1800, session)
  expect PRIMARY.get(visitor) == session, "the session read back is another one"

  PRIMARY.incr("shop:ruby:counter")
  PRIMARY.lpush("shop:ruby:orders", "order-#{number}")
  expect PRIMARY.brpop("shop:ruby:orders", timeout: 1), "the queued order is gone"

  PRIMARY.set("shop:ruby:product:#{number % PRODUCTS}", number)
  # A replica may be a moment behind: an older price is fine, and so is none for a new product.
  shown = READER.get("shop:ruby:product:#{(number + 1) % PRODUCTS}")
  expect shown || number < 2 * PRODUCTS, "the product is gone"
  7
end

now = -> { Process.clock_gettime(Process::CLOCK_MONOTONIC) }
ops = errors = degraded = number = 0
ends = now.call + seconds.to_f
while now.call < ends
  begin
    ops += serve(number)
  rescue Redis::BaseConnectionError => e # no answer at all: the page is shown without Redis
    degraded += 1
    warn "degraded: #{e.message}"
  rescue Redis::BaseError, RuntimeError => e
    errors += 1
    warn "request #{number}: #{e.message}"
  end
  number += 1
  sleep 0.005
end
puts JSON.generate(ops: ops, errors: errors, degraded: degraded)
