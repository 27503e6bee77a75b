<?php
// A shop's requests with phpredis: php shop.php [HOST [PRIMARY_PORT [READER_PORT [SECONDS]]]]
//
// Every request connects, as PHP's do. It keeps the visitor's session, counts, queues an order and
// changes a product on the primary, and reads products from the reader. Nothing in here knows what
// runs behind the two ports.
declare(strict_types=1);

const CONNECT_TIMEOUT = 1.0;      // seconds
const RETRIES = 3;                // after the first attempt
const RETRY_DELAY = 500 * 1000;   // microseconds between two attempts
const READ_TIMEOUT = 10.0;        // seconds; longer than a failover takes
const PRODUCTS = 20;

/** Redis could not be reached: the page is shown without session and live prices. */
final class Unreachable extends RuntimeException
{
}

function connected(string $host, int $port): Redis
{
    $reason = '';
    for ($left = RETRIES; $left >= 0; $left--) {
        try {
            $client = new Redis();
            if ($client->connect($host, $port, CONNECT_TIMEOUT, null, 0, READ_TIMEOUT)) {
                return $client;
            }
            $reason = 'no connection';
        } catch (RedisException $e) {
            $reason = $e->getMessage();
        }
        fwrite(STDERR, "connect to $host:$port: $reason, $left attempts left\n");
        if ($left > 0) {
            usleep(RETRY_DELAY);
        }
    }
    throw new Unreachable("$host:$port: $reason");
}

/** Serves one request and returns how many commands it took. */
function serve(Redis $primary, Redis $reader, int $number): int
{
    $visitor = 'shop:php:session:' . ($number % 50);
    $session = json_encode(['seen' => $number, 'cart' => ["item-$number"]]);
    expect($primary->setEx($visitor, 1800, $session) === true, 'the session was not stored');
    expect($primary->get($visitor) === $session, 'the session read back is another one');

    expect($primary->incr('shop:php:counter') > 0, 'the counter did not count');
    expect($primary->lPush('shop:php:orders', "order-$number") > 0, 'the order was not queued');
    expect($primary->rPop('shop:php:orders') !== false, 'the queued order is gone');

    $product = 'shop:php:product:' . ($number % PRODUCTS);
    expect($primary->set($product, json_encode(['price' => $number])) === true, 'the product was not stored');
    // A replica may be a moment behind: an older price is fine, and so is none for a new product.
    $shown = $reader->get('shop:php:product:' . (($number + 1) % PRODUCTS));
    expect($shown !== false || $number < 2 * PRODUCTS, 'the product is gone');
    return 7;
}

function expect(bool $ok, string $otherwise): void
{
    if (!$ok) {
        throw new RuntimeException($otherwise);
    }
}

[$host, $primaryPort, $readerPort, $seconds] = array_slice($argv, 1) + ['127.0.0.1', '7379', '7380', '10'];
$ops = $errors = $degraded = 0;
$until = microtime(true) + (float) $seconds;
for ($number = 0; microtime(true) < $until; $number++) {
    try {
        $primary = connected($host, (int) $primaryPort);
        $reader = connected($host, (int) $readerPort);
        $ops += serve($primary, $reader, $number);
        $primary->close();
        $reader->close();
    } catch (Unreachable $e) {
        $degraded++;
        fwrite(STDERR, 'degraded: ' . $e->getMessage() . "\n");
    } catch (Exception $e) {
        $errors++;
        fwrite(STDERR, "request $number: " . $e->getMessage() . "\n");
    }
    usleep(5000);
}
echo json_encode(['ops' => $ops, 'errors' => $errors, 'degraded' => $degraded]), "\n";
