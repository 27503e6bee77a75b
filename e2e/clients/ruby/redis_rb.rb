# redis-rb as applications use it: one client an endpoint, pipelines, transactions, a queue with BRPOP, a
# subscriber in a thread of its own.
require "redis"
require_relative "record"

KEY = ENV.fetch("CLIENT_KEY")
CONNECT = ->(endpoint) { Redis.new(host: ENV.fetch("CLIENT_HOST"), port: port(endpoint)) }
PRIMARY, READER, SPLIT = %w[PRIMARY READER SPLIT].map(&CONNECT)

# Listens for ever. redis-rb ends a subscription whose connection is lost; who wants to go on asks again.
class Subscriber
  attr_reader :heard, :again

  def initialize
    @heard = 0
    @again = -1
    Thread.new { loop { listen } }
  end

  def listen
    @again += 1
    CONNECT.call("PRIMARY").subscribe("#{KEY}:news") { |on| on.message { |_, m| @heard = m.to_i } }
  rescue Redis::BaseConnectionError
    sleep 0.05
  end
end

def both(n)
  PRIMARY.multi do |t|
    t.set("#{KEY}:both", n)
    t.sadd("#{KEY}:seen", [n])
  end
end

def many(n)
  PRIMARY.pipelined do |p|
    5.times do |i|
      p.set("#{KEY}:many:#{i}", n)
      p.get("#{KEY}:many:#{i}")
    end
  end
end

r = Record.new("redis-rb #{Redis::VERSION}, Ruby #{RUBY_VERSION}")
subscriber = Subscriber.new
values = {}
members, pushed, popped = [], [], []
counted = maybe_counted = maybe_popped = n = 0
while r.another?
  n += 1
  at = "#{KEY}:value:#{n % 50}"
  if r.op("SET", true) { PRIMARY.set(at, n) }
    values[at] = n
    got = r.op("GET", true) { PRIMARY.get(at) }
    r.check(got.nil? || got.to_i == n, "GET gave #{got} after SET #{n}")
  end
  unknown = r.unknown
  counted += 1 if r.op("INCR", false) { PRIMARY.incr("#{KEY}:count") }
  maybe_counted += r.unknown - unknown
  pushed << n if r.op("LPUSH", false) { PRIMARY.lpush("#{KEY}:jobs", n) }
  unknown = r.unknown
  job = r.op("BRPOP", false) { PRIMARY.brpop("#{KEY}:jobs", timeout: 1) }
  popped << job[1].to_i if job
  maybe_popped += r.unknown - unknown
  members << n if r.op("EXEC", false) { both(n) }
  replies = r.op("pipeline", true) { many(n) }
  r.check(replies.nil? || replies[9].to_i == n, "the pipeline's answers came in another order")
  r.op("PUBLISH", true) { PRIMARY.publish("#{KEY}:news", n) }
  if r.op("SET on split", true) { SPLIT.set("#{KEY}:split", n) }
    got = r.op("GET on split", true) { SPLIT.get("#{KEY}:split") }
    r.check(got.nil? || got.to_i == n, "split gave #{got} after SET #{n}")
  end
  r.op("GET on reader", true) { READER.get(at) } # may be a moment behind
end

hears = eventually(5) do
  PRIMARY.publish("#{KEY}:news", n + 1)
  subscriber.heard == n + 1
end
r.check(hears, "the subscriber hears nothing any more")
r.lost += values.count { |k, v| r.op("GET", true) { PRIMARY.get(k) }.to_i != v }
count = r.op("GET", true) { PRIMARY.get("#{KEY}:count") }.to_i
r.lost += [0, counted - count].max
r.doubled += [0, count - counted - maybe_counted].max
r.lost += compare(members, PRIMARY.smembers("#{KEY}:seen").map(&:to_i)).first
gone, twice = compare(pushed, popped + PRIMARY.lrange("#{KEY}:jobs", 0, -1).map(&:to_i))
r.lost += [0, gone - maybe_popped].max
r.doubled += twice
r.note = "subscribed anew #{subscriber.again} times" if subscriber.again.positive?
r.finish
