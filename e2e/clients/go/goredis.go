package main

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

var background = context.Background()

type goRedis struct{ c *redis.Client }

func openGoRedis(endpoint string) client {
	return goRedis{redis.NewClient(&redis.Options{Addr: addr(endpoint)})}
}

func (g goRedis) set(key, value string) error { return g.c.Set(background, key, value, 0).Err() }

func (g goRedis) get(key string) (string, error) {
	v, err := g.c.Get(background, key).Result()
	if isNil(err) {
		err = nil
	}
	return v, err
}

func (g goRedis) seen(key string) (string, error) { return g.get(key) }
func (g goRedis) incr(key string) error           { return g.c.Incr(background, key).Err() }
func (g goRedis) push(key, value string) error    { return g.c.LPush(background, key, value).Err() }

func (g goRedis) pop(key string) (string, error) {
	both, err := g.c.BRPop(background, time.Second, key).Result()
	if isNil(err) || err == nil && len(both) < 2 {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return both[1], nil
}

func (g goRedis) both(n string) error {
	_, err := g.c.TxPipelined(background, func(p redis.Pipeliner) error {
		p.Set(background, key+":both", n, 0)
		p.SAdd(background, key+":seen", n)
		return nil
	})
	return err
}

func (g goRedis) many(n string) (string, error) {
	var last *redis.StringCmd
	_, err := g.c.Pipelined(background, func(p redis.Pipeliner) error {
		for i := range 5 {
			p.Set(background, key+":many:"+strconv.Itoa(i), n, 0)
			last = p.Get(background, key+":many:"+strconv.Itoa(i))
		}
		return nil
	})
	return last.Val(), err
}

func (g goRedis) members(key string) ([]string, error) { return g.c.SMembers(background, key).Result() }
func (g goRedis) list(key string) ([]string, error) {
	return g.c.LRange(background, key, 0, -1).Result()
}

func (g goRedis) publish(channel, message string) error {
	return g.c.Publish(background, channel, message).Err()
}

func (g goRedis) subscribe(channel string, hear func(string)) {
	messages := g.c.Subscribe(background, channel).Channel()
	go func() {
		for m := range messages {
			hear(m.Payload)
		}
	}()
}
