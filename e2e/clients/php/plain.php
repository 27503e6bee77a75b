<?php
// phpredis and Predis as applications use them: php plain.php connect | pconnect | predis
declare(strict_types=1);

require __DIR__ . '/record.php';

$mode = $argv[1];
$host = getenv('CLIENT_HOST');
if ($mode === 'predis') {
    require 'Predis/autoload.php';
}

/** A client of an endpoint: one that lives on, or, with pconnect, what the process kept from the last request. */
function open(string $mode, string $host, string $endpoint): object
{
    static $kept = [];
    $port = (int) getenv("CLIENT_{$endpoint}_PORT");
    if ($mode === 'pconnect') {
        $client = new Redis();
        $client->pconnect($host, $port, 5.0);
        return $client;
    }
    if (!isset($kept[$endpoint])) {
        if ($mode === 'predis') {
            $kept[$endpoint] = new Predis\Client(['host' => $host, 'port' => $port, 'read_write_timeout' => 60]);
        } else {
            $kept[$endpoint] = new Redis();
            $kept[$endpoint]->connect($host, $port, 5.0);
        }
    }
    return $kept[$endpoint];
}

/** Sets a value and adds a member in one transaction. */
function both(object $client, string $key, int $n): mixed
{
    if ($client instanceof Redis) {
        return $client->multi()->set("$key:both", $n)->sAdd("$key:seen", $n)->exec();
    }
    return $client->transaction(function ($t) use ($key, $n) {
        $t->set("$key:both", $n);
        $t->sadd("$key:seen", $n);
    });
}

/** Sends ten reads and writes at once. */
function many(object $client, string $key, int $n): array
{
    if ($client instanceof Redis) {
        $p = $client->multi(Redis::PIPELINE);
        for ($i = 0; $i < 5; $i++) {
            $p->set("$key:many:$i", $n);
            $p->get("$key:many:$i");
        }
        return $p->exec();
    }
    return $client->pipeline(function ($p) use ($key, $n) {
        for ($i = 0; $i < 5; $i++) {
            $p->set("$key:many:$i", $n);
            $p->get("$key:many:$i");
        }
    });
}

$version = $mode === 'predis' ? 'Predis ' . Predis\Client::VERSION : 'phpredis ' . phpversion('redis');
// Predis leaves it to its users to try again when a connection was lost.
$r = new Record("$version, PHP " . PHP_VERSION, $mode === 'predis' ? Predis\Connection\ConnectionException::class : null);
$key = getenv('CLIENT_KEY');
$values = $members = $pushed = $popped = [];
$counted = $maybeCounted = $maybePopped = 0;

for ($n = 1; $r->another(); $n++) {
    $primary = $r->op('connect', true, fn () => open($mode, $host, 'PRIMARY'));
    $reader = $r->op('connect to the reader', true, fn () => open($mode, $host, 'READER'));
    $split = $r->op('connect to split', true, fn () => open($mode, $host, 'SPLIT'));
    if (!$primary || !$reader || !$split) {
        continue;
    }
    $at = "$key:value:" . $n % 50;
    if ($r->op('SET', true, fn () => $primary->set($at, $n))) {
        $values[$at] = $n;
        $got = $r->op('GET', true, fn () => $primary->get($at));
        $r->check($got === null || (int) $got === $n, "GET gave $got after SET $n");
    }
    $unknown = $r->unknown;
    if ($r->op('INCR', false, fn () => $primary->incr("$key:count")) !== null) {
        $counted++;
    }
    $maybeCounted += $r->unknown - $unknown;
    if ($r->op('LPUSH', false, fn () => $primary->lpush("$key:jobs", "$n"))) {
        $pushed[] = $n;
    }
    $unknown = $r->unknown;
    if ($job = $r->op('BRPOP', false, fn () => $primary->brpop(["$key:jobs"], 1))) {
        $popped[] = (int) $job[1];
    }
    $maybePopped += $r->unknown - $unknown;
    if (is_array($r->op('EXEC', false, fn () => both($primary, $key, $n)))) {
        $members[] = $n;
    }
    $replies = $r->op('pipeline', true, fn () => many($primary, $key, $n));
    $r->check($replies === null || count($replies) === 10 && (int) $replies[9] === $n, "the pipeline's answers came in another order");
    if ($r->op('SET on split', true, fn () => $split->set("$key:split", $n))) {
        $got = $r->op('GET on split', true, fn () => $split->get("$key:split"));
        $r->check($got === null || (int) $got === $n, "split gave $got after SET $n");
    }
    $r->op('GET on reader', true, fn () => $reader->get($at)); // may be a moment behind
}

$primary = open($mode, $host, 'PRIMARY');
foreach ($values as $at => $n) {
    $r->lost += (int) $r->op('GET', true, fn () => $primary->get($at)) === $n ? 0 : 1;
}
$count = (int) $r->op('GET', true, fn () => $primary->get("$key:count"));
$r->lost += max(0, $counted - $count);
$r->doubled += max(0, $count - $counted - $maybeCounted);
[$lost] = compare($members, array_map('intval', $r->op('SMEMBERS', true, fn () => $primary->smembers("$key:seen")) ?? []));
$left = array_map('intval', $r->op('LRANGE', true, fn () => $primary->lrange("$key:jobs", 0, -1)) ?? []);
[$gone, $twice] = compare($pushed, array_merge($popped, $left));
$r->lost += $lost + max(0, $gone - $maybePopped);
$r->doubled += $twice;
$r->finish();
