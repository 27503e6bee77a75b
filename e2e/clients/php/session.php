<?php
// PHP's own sessions in Redis, with phpredis' session handler and its lock: several requests of one visitor
// at once, each of which counts. Without the lock they would overwrite each other's count.
declare(strict_types=1);

require __DIR__ . '/record.php';

const VISITORS = 3; // processes that share the session

ini_set('session.save_handler', 'redis');
ini_set('session.save_path', sprintf('tcp://%s:%s?persistent=1&timeout=5&read_timeout=30&prefix=%s:', getenv('CLIENT_HOST'), getenv('CLIENT_PRIMARY_PORT'), getenv('CLIENT_KEY')));
ini_set('session.use_cookies', '0');
ini_set('session.cache_limiter', '');
ini_set('redis.session.locking_enabled', '1');
ini_set('redis.session.lock_expire', '5');          // seconds
ini_set('redis.session.lock_wait_time', '5000');    // microseconds
ini_set('redis.session.lock_retries', '4000');
set_error_handler(function (int $level, string $message): bool {
    throw new ErrorException($message);
});

/** One request: it takes the session, counts, and gives it back. Returns the count. */
function request(): int
{
    session_id('visitor-1');
    if (!session_start()) {
        throw new RuntimeException('the session could not be opened');
    }
    $_SESSION['count'] = ($_SESSION['count'] ?? 0) + 1;
    $count = $_SESSION['count'];
    session_write_close();
    return $count;
}

/**
 * A request that failed ends without its session. Its lock is taken with SET NX, which must not run twice: when a
 * failover leaves open whether the session is locked, the others wait until the lock expires.
 */
function served(Record $r): ?int
{
    $count = $r->op('a request with a session', false, 'request');
    if ($count === null && session_status() === PHP_SESSION_ACTIVE) {
        session_abort();
    }
    return $count;
}

$r = new Record('phpredis ' . phpversion('redis') . ', PHP ' . PHP_VERSION);
if (($argv[1] ?? '') === 'visitor') {
    for (ob_start(); $r->another();) {
        served($r);
    }
    ob_end_clean();
    $r->finish();
    exit;
}

$visitors = [];
for ($i = 0; $i < VISITORS; $i++) {
    $visitors[] = popen(escapeshellarg(PHP_BINARY) . ' ' . escapeshellarg(__FILE__) . ' visitor', 'r');
}
ob_start(); // headers must not be sent before a session starts
while ($r->another()) {
    served($r);
    ob_flush();
    flush();
}
$requests = $r->ops - $r->unknown - count($r->errors);
foreach ($visitors as $v) {
    $saw = json_decode((string) stream_get_contents($v), true);
    pclose($v);
    $requests += $saw['ops'] - $saw['unknown'] - $saw['failed'];
    $r->ops += $saw['ops'];
    $r->unknown += $saw['unknown'];
    $r->errors = array_merge($r->errors, $saw['errors']);
    $r->longest = max($r->longest, $saw['longest_ms']);
}
$count = (int) served($r) - 1;
$r->lost += max(0, $requests - $count);
$r->doubled += max(0, $count - $requests - $r->unknown - count($r->errors));
$r->note = VISITORS + 1 . ' requests at a time counted to ' . $count;
$r->finish();
