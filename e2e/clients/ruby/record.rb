# What a client program saw: each operation's time and outcome, and at its end one line of JSON for the
# driver (../../clients_test.go).
require "json"

$stdout.sync = true

class Record
  attr_accessor :ops, :unknown, :lost, :doubled, :errors, :note

  def initialize(version)
    @version = version
    @ops = @unknown = @lost = @doubled = @rounds = 0
    @errors = []
    @longest = 0.0 # ms of the slowest operation
    @note = ""
  end

  # Runs one operation. repeatable: running it twice would be as good as once. nil after an error.
  def op(what, repeatable)
    @ops += 1
    begun = now
    yield
  rescue StandardError => e
    failed(what, repeatable, "#{e.class}: #{e.message}")
    nil
  ensure
    @longest = [@longest, (now - begun) * 1000].max
  end

  # An answer that says that the outcome is not known is counted apart, for what may not run twice.
  def failed(what, repeatable, message)
    if !repeatable && message.include?("UNKNOWN")
      @unknown += 1
    else
      @errors << "#{what}: #{message}"
    end
  end

  def check(ok, otherwise)
    @errors << otherwise unless ok
  end

  # Ends a round: tells the driver, rests, and says whether there is to be another one.
  def another?
    if @rounds.positive?
      puts "round"
      sleep ENV.fetch("CLIENT_PAUSE_MS").to_i / 1000.0
    end
    @rounds += 1
    !File.exist?(ENV.fetch("CLIENT_STOP"))
  end

  def finish
    puts JSON.generate(version: @version, ops: @ops, errors: @errors.first(20), failed: @errors.length, unknown: @unknown,
                       lost: @lost, doubled: @doubled, longest_ms: @longest.round(1), note: @note)
  end
end

def now
  Process.clock_gettime(Process::CLOCK_MONOTONIC)
end

# Waits until the block holds, at most so many seconds.
def eventually(seconds)
  ends = now + seconds
  while now < ends
    return true if yield
    sleep 0.02
  end
  false
end

def port(endpoint)
  ENV.fetch("CLIENT_#{endpoint}_PORT").to_i
end

def done_file
  File.join(ENV.fetch("CLIENT_DIR"), "done")
end

def done
  File.exist?(done_file) ? File.readlines(done_file).map(&:to_i) : []
end

# How many of the acked were not done, and how often something was done again.
def compare(acked, did)
  [(acked - did).length, did.length - did.uniq.length]
end
