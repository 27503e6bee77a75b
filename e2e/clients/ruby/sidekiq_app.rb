# Sidekiq: this process queues jobs, also scheduled ones, and `sidekiq` does them: ruby sidekiq_app.rb
#
# Sidekiq takes a job from the queue, or from the schedule (a script), before it does anything with it: one of which
# it does not learn whether it was taken is lost, for each time that its log says so. A job that raises is retried.
require "sidekiq"
require "sidekiq/api"
require_relative "record"

Redis.silence_deprecations = true # Sidekiq 6.4 calls SADD in a way that redis-rb 4.8 warns of
DATABASE = "redis://#{ENV.fetch('CLIENT_HOST')}:#{port('PRIMARY')}/2"
Sidekiq.configure_client { |c| c.redis = { url: DATABASE } }
Sidekiq.configure_server do |c|
  c.redis = { url: DATABASE }
  c.average_scheduled_poll_interval = 1 # seconds, by default some 15
end

QUEUE = ENV.fetch("CLIENT_KEY")

class Deliver
  include Sidekiq::Worker
  sidekiq_options queue: QUEUE

  def perform(n)
    File.write(done_file, "#{n}\n", mode: "a")
  end
end

BACKLOG = 50 # jobs that wait at most, so that they are done soon after the last was queued

def main
  r = Record.new("Sidekiq #{Sidekiq::VERSION}, redis-rb #{Redis::VERSION}, Ruby #{RUBY_VERSION}")
  log = File.join(ENV.fetch("CLIENT_DIR"), "sidekiq.log")
  worker = Process.spawn("sidekiq", "-r", File.expand_path(__FILE__), "-q", QUEUE, "-c", "2", "-e", "production", out: log, err: log)
  acked = []
  n = 0
  while r.another?
    waiting = r.op("Queue.size", true) { Sidekiq::Queue.new(QUEUE).size }
    next if waiting.nil? || waiting >= BACKLOG

    n += 1
    acked << n if r.op("perform_async", false) { Deliver.perform_async(n) }
    acked << -n if n % 10 == 0 && r.op("perform_in", false) { Deliver.perform_in(1, -n) }
  end
  eventually(40) { compare(acked, done).first.zero? } # Sidekiq looks at what is scheduled after up to 15 s
  missing = acked - done
  left = "; not done: #{missing.first(10)}, queued #{Sidekiq::Queue.new(QUEUE).size}, scheduled #{Sidekiq::ScheduledSet.new.size}, to be tried again #{Sidekiq::RetrySet.new.size}"
  r.check(Process.wait(worker, Process::WNOHANG).nil?, "the worker has ended")
  Process.kill("TERM", worker)
  Process.wait(worker)
  said = File.readlines(log).grep(/ERROR|WARN/)
  $stderr.puts said
  said.grep(/fail|error/i).each { |line| r.failed("the worker", false, line.strip) }
  lost, r.doubled = compare(acked, done)
  r.lost = [0, lost - r.unknown].max
  r.note = "#{acked.length} jobs" + (missing.empty? ? "" : left)
  r.finish
end

main if $PROGRAM_NAME == __FILE__
