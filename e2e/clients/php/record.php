<?php
// What a client program saw: each operation's time and outcome, and at its end one line of JSON for the
// driver (../../clients_test.go).
declare(strict_types=1);

final class Record
{
    public int $ops = 0;
    public int $unknown = 0;        // answers that say that the outcome is not known, to what may not run twice
    public int $lost = 0;           // acked, and not there
    public int $doubled = 0;        // done more often than asked for
    public array $errors = [];
    public float $longest = 0.0;    // ms of the slowest operation
    public string $note = '';

    private int $round = 0;
    private int $retried = 0;

    /** $broken: the exception of a lost connection, for a library that leaves it to its users to try again. */
    public function __construct(private string $version, private ?string $broken = null)
    {
    }

    /** Runs one operation. $repeatable: running it twice would be as good as once. Returns null after an error. */
    public function op(string $what, bool $repeatable, callable $does): mixed
    {
        $this->ops++;
        $begin = microtime(true);
        try {
            try {
                return $does();
            } catch (Throwable $e) {
                if (!$repeatable || !$this->broken || !$e instanceof $this->broken) {
                    throw $e;
                }
                $this->retried++;
                return $does();
            }
        } catch (Throwable $e) {
            $this->failed($what, $repeatable, $e->getMessage());
            return null;
        } finally {
            $this->longest = max($this->longest, (microtime(true) - $begin) * 1000);
        }
    }

    public function failed(string $what, bool $repeatable, string $message): void
    {
        if (!$repeatable && str_contains($message, 'UNKNOWN')) {
            $this->unknown++;
            return;
        }
        $this->errors[] = "$what: $message";
    }

    public function check(bool $ok, string $otherwise): void
    {
        if (!$ok) {
            $this->errors[] = $otherwise;
        }
    }

    /** Ends a round: tells the driver, rests, and says whether there is to be another one. */
    public function another(): bool
    {
        if ($this->round++ > 0) {
            echo "round\n";
            usleep(1000 * (int) getenv('CLIENT_PAUSE_MS'));
        }
        return !file_exists(getenv('CLIENT_STOP'));
    }

    public function finish(): void
    {
        if ($this->retried > 0) {
            $this->note = ltrim("$this->note; tried $this->retried commands again", '; ');
        }
        echo json_encode([
            'version' => $this->version, 'ops' => $this->ops, 'errors' => array_slice($this->errors, 0, 20),
            'failed' => count($this->errors), 'unknown' => $this->unknown, 'lost' => $this->lost,
            'doubled' => $this->doubled, 'longest_ms' => round($this->longest, 1), 'note' => $this->note,
        ], JSON_INVALID_UTF8_SUBSTITUTE), "\n";
    }
}

/** Waits until the condition holds, at most so many seconds. */
function eventually(float $seconds, callable $holds): bool
{
    for ($until = microtime(true) + $seconds; microtime(true) < $until; usleep(20000)) {
        if ($holds()) {
            return true;
        }
    }
    return false;
}

/** The numbers in a file, one a line; what another process appends. */
function numbersIn(string $file): array
{
    return is_file($file) ? array_map('intval', file($file, FILE_IGNORE_NEW_LINES | FILE_SKIP_EMPTY_LINES)) : [];
}

/** Compares what was acked with what was done: [lost, doubled]. */
function compare(array $acked, array $done): array
{
    return [count(array_diff($acked, $done)), count($done) - count(array_unique($done))];
}
