<?php
// Laravel's cache and queue over Redis: php laravel.php phpredis | predis. A second process, with Laravel's own
// queue worker, does the jobs.
declare(strict_types=1);

require __DIR__ . '/record.php';
require 'Illuminate/Queue/autoload.php';
require 'Illuminate/Cache/autoload.php';
require 'Illuminate/Redis/autoload.php';
require 'Illuminate/Events/autoload.php';

use Illuminate\Cache\RedisStore;
use Illuminate\Cache\Repository;
use Illuminate\Container\Container;
use Illuminate\Contracts\Debug\ExceptionHandler;
use Illuminate\Queue\Capsule\Manager;
use Illuminate\Queue\Worker;
use Illuminate\Queue\WorkerOptions;
use Illuminate\Redis\RedisManager;

const RETRY_AFTER = 4; // seconds after which a job that nobody finished is done again

/** The redis connections of config/database.php. */
function redis(Container $app, string $client): RedisManager
{
    $at = fn (string $endpoint) => [
        'host' => getenv('CLIENT_HOST'), 'port' => (int) getenv("CLIENT_{$endpoint}_PORT"), 'database' => 0,
        'read_write_timeout' => 60, 'read_timeout' => 60, 'timeout' => 5,
    ];
    return new RedisManager($app, $client, [
        'options' => ['prefix' => getenv('CLIENT_KEY') . ':'], 'default' => $at('PRIMARY'), 'cache' => $at('SPLIT'),
    ]);
}

function queues(Container $app): Manager
{
    $queues = new Manager($app);
    $queues->addConnection(['driver' => 'redis', 'connection' => 'default', 'queue' => 'default', 'retry_after' => RETRY_AFTER, 'block_for' => 1]);
    return $queues;
}

/** What a job does: it notes its number outside of Redis. */
final class Deliver
{
    public function fire($job, array $data): void
    {
        file_put_contents(getenv('CLIENT_DIR') . '/done', $data['n'] . "\n", FILE_APPEND | LOCK_EX);
        $job->delete();
    }
}

/** The worker's exceptions go to a file, which is read at the end. */
final class Report implements ExceptionHandler
{
    public function report(Throwable $e): void
    {
        file_put_contents(getenv('CLIENT_DIR') . '/worker-errors', strtok($e->getMessage(), "\n") . "\n", FILE_APPEND | LOCK_EX);
    }

    public function shouldReport(Throwable $e): bool
    {
        return true;
    }

    public function render($request, Throwable $e)
    {
    }

    public function renderForConsole($output, Throwable $e)
    {
    }
}

/** Does jobs until it is ended; with Predis a supervisor would start it anew as Laravel's worker stops itself. */
function work(Container $app, Manager $queues): void
{
    $worker = new Worker($queues->getQueueManager(), new Illuminate\Events\Dispatcher($app), new Report(), fn () => false);
    $options = new WorkerOptions('default', 0, 128, 60, 0, 0); // no pause between jobs, tried as often as it takes
    while (!file_exists(getenv('CLIENT_DIR') . '/drained')) {
        $worker->runNextJob('default', 'default', $options);
    }
}

$client = $argv[1];
$app = new Container();
Container::setInstance($app);
$app->instance('redis', $redis = redis($app, $client));
$app->instance(ExceptionHandler::class, new Report());
$queues = queues($app);
if (($argv[2] ?? '') === 'worker') {
    work($app, $queues);
    exit;
}

$dir = getenv('CLIENT_DIR');
$worker = proc_open([PHP_BINARY, __FILE__, $client, 'worker'], [STDIN, STDERR, STDERR], $pipes);
$library = $client === 'predis' ? 'Predis ' . Predis\Client::VERSION : 'phpredis ' . phpversion('redis');
// Laravel opens a lost connection of phpredis again by itself; with Predis that is the application's.
$r = new Record("Laravel 8.83.26, $library, PHP " . PHP_VERSION, $client === 'predis' ? Predis\Connection\ConnectionException::class : null);
$cache = new Repository(new RedisStore($redis, 'cache:', 'cache'));
$queue = $queues->getConnection();
$acked = $kept = [];
for ($n = 1; $r->another(); $n++) {
    $at = 'product:' . $n % 20;
    if ($r->op('Cache::put', true, fn () => $cache->put($at, ['price' => $n], 3600))) {
        $kept[$at] = $n;
        $got = $r->op('Cache::get', true, fn () => $cache->get($at));
        $r->check($got === null || $got['price'] === $n, 'Cache::get gave another value than was put');
    }
    $r->op('Cache::remember', true, fn () => $cache->remember('shop:' . $n % 7, 60, fn () => 'a shop'));
    $r->op('Cache::many', true, fn () => $cache->many(['product:1', 'product:2', 'product:3']));
    $r->op('Cache::increment', false, fn () => $cache->increment('visits'));
    $lock = $cache->lock('checkout', 5);
    $got = $r->op('Cache::lock', false, fn () => $lock->block(10, fn () => true));
    $r->check($got !== false, 'the lock was not given');
    $r->op('ping', true, fn () => $redis->connection()->ping()); // what follows must not be tried again
    if ($r->op('Queue::push', false, fn () => $queue->push('Deliver@fire', ['n' => $n])) !== null) {
        $acked[] = $n;
    }
    if ($n % 10 === 0 && $r->op('Queue::later', false, fn () => $queue->later(1, 'Deliver@fire', ['n' => -$n])) !== null) {
        $acked[] = -$n;
    }
}
eventually(4 * RETRY_AFTER, fn () => compare($acked, numbersIn("$dir/done"))[0] === 0);
touch("$dir/drained");
proc_close($worker);
foreach ($kept as $at => $n) {
    $got = $r->op('Cache::get', true, fn () => $cache->get($at));
    $r->lost += ($got['price'] ?? null) === $n ? 0 : 1;
}
[$lost, $twice] = compare($acked, numbersIn("$dir/done"));
foreach (is_file("$dir/worker-errors") ? file("$dir/worker-errors", FILE_IGNORE_NEW_LINES) : [] as $message) {
    $r->failed('the queue worker', false, $message);
}
$r->lost += $lost;
$r->note = count($acked) . " jobs, $twice of them done twice";
$r->finish();
